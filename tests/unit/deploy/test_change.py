"""Roll, scale and kill: who is next, when each is back, what is told, and what is left when something goes wrong."""

import itertools
import json
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.cli import change, kills, rolling
from deploy.cli.__main__ import run
from deploy.cli.change import Pace, target_line
from deploy.cli.durations import seconds
from deploy.cli.load import run as load
from deploy.supervisor.desired import INSTANCES_MAX
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.messages import Killed, Process, Scaled, Status
from deploy.supervisor.part import Kind
from tests.fakes.market import Market
from weft_protos.manifests import GATEWAYS_MAX

SERVICES = {"orders": Kind.SERVICE, "relay": Kind.WORKER, "control-plane": Kind.CONTROL_PLANE, "gateway": Kind.GATEWAY}


def process(name: str, kind: Kind, pid: int | None) -> Process:
    return Process(
        name, kind.value, name.rpartition("-")[0], pid, "127.0.0.1:1", "ready", 0, "2026-01-01T00:00:00.000Z", "member"
    )


@dataclass
class Mesh:
    """A mesh of two of each; whatever is killed is back, under another pid, when it was looked at a few times."""

    gateway: str = "127.0.0.1:1"
    secrets: Path = Path("/nonexistent")
    replaces: bool = True
    """Put another process in the place of one that was killed or stopped."""
    fails: str = ""
    """The instance that does not come up again."""
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._pids = itertools.count(100)
        kinds = {**SERVICES, "memcached": Kind.MEMCACHED, "etcd": Kind.ETCD, "postgres": Kind.DATABASE}
        names = [(f"{service}-{number}", kind) for service, kind in kinds.items() for number in (1, 2)]
        self._processes = {name: process(name, kind, next(self._pids)) for name, kind in names}
        self._looks = 0

    def status(self) -> Status:
        self._looks += 1
        if self._looks % 3 == 0 and self.replaces:
            for name, one in self._processes.items():
                if one.state == "down":
                    self._processes[name] = replace(one, pid=next(self._pids), state="ready")
        return Status("http://127.0.0.1:1", {"mail": "http://127.0.0.1:1/"}, tuple(self._processes.values()))

    def kill(self, name: str, number: signal.Signals) -> Killed:
        self.done.append(f"{number.name} {name}")
        one = self._processes[name]
        assert one.pid is not None
        if self.replaces and number in (*kills.DEADLY, signal.SIGSTOP):
            self._processes[name] = replace(one, state="down")
        return Killed(name, one.pid)

    def restart(self, name: str) -> Killed:
        self.done.append(f"restart {name}")
        if name == self.fails:
            self._processes[name] = replace(self._processes[name], pid=None, state="down")
            raise RefusedError(f"{name} was stopped but is not ready again")
        before = self._processes[name]
        self._processes[name] = replace(before, pid=next(self._pids))
        assert before.pid is not None
        return Killed(name, before.pid)

    def scale(self, service: str, size: int, *, for_now: bool = False) -> Scaled:
        self.done.append(f"scale {service} {size}" + (" for now" if for_now else ""))
        names = [name for name, one in self._processes.items() if one.service == service]
        kind = Kind(self._processes[names[0]].kind)
        added = [f"{service}-{number}" for number in range(len(names) + 1, size + 1)]
        self._processes |= {name: process(name, kind, next(self._pids)) for name in added}
        removed = names[size:]
        for name in removed:
            del self._processes[name]
        return Scaled(tuple(added), tuple(removed))


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    made = Mesh()
    monkeypatch.setattr(change, "Mesh", lambda _data: made)
    monkeypatch.setattr(kills, "POLL_S", 0.001)
    return made


# what an argument means


@pytest.mark.parametrize(
    ("text", "found"), [("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("7", 7.0), ("1.5s", 1.5)]
)
def test_a_duration_has_a_unit_or_is_in_seconds(text: str, found: float) -> None:
    assert found == seconds(text)


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "5 s", "s", "5d", "1e3", "nan", "9999999h", "٣s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a duration; give one such as 5s"):
        seconds(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roll"], "Missing argument"),
        (["roll", "orders", "--under-load", "0"], "--under-load"),
        (["roll", "orders", "--under-load", "many"], "--under-load"),
        (["roll", "orders", "--under-load", "1e9"], "--under-load"),
        (["scale", "orders", "3", "--under-load", "-1"], "--under-load"),
        (["kill", "any", "--every", "soon"], "soon is not a duration"),
        (["kill", "any", "--every", "5s", "--for", "0s"], "0s is not a duration"),
        (["kill", "any", "--for", "60s"], "--for says how long --every goes on; give both"),
        (["kill", "any", "--kind", "cat"], "'cat'"),
        (["kill", "orders-1", "--kind", "service"], "--kind says whom `any` means, and orders-1 is one already"),
        (["kill", "any", "--seed", "x"], "--seed"),
    ],
)
def test_a_wrong_argument_is_one_line_and_touches_nothing(
    arguments: list[str], message: str, mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 2 == run(arguments)
    said = capsys.readouterr()

    assert ("", 1, []) == (said.out, said.err.count("\n"), mesh.done)
    assert message in said.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["roll", "cats"],
            "nothing that can be rolled is called cats; known are orders, relay, control-plane",
        ),
        (["roll", "postgres"], "nothing that can be rolled is called postgres"),
        (["kill", "cats-1"], "no process is called cats-1; known are orders-1"),
        (["kill", "orders"], "no process is called orders; its instances are orders-1, orders-2"),
        (["kill", "any", "--kind", "rabbitmq"], "nothing of the kind rabbitmq runs"),
    ],
)
def test_a_name_nobody_has_is_refused_with_those_there_are(
    arguments: list[str], message: str, mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == run(arguments)
    said = capsys.readouterr()

    assert ("", 1, []) == (said.out, said.err.count("\n"), mesh.done)
    assert message in said.err


# who is next, and when


def test_the_same_seed_gives_the_same_order_and_everybody_a_turn_before_anybody_a_second() -> None:
    names = ["orders-2", "orders-1", "etcd-1", "memcached-1"]

    first, again, other = (
        list(itertools.islice(kills.order(given, seed=seed), 12))
        for given, seed in ((names, 7), (names[::-1], 7), (names, 8))
    )

    assert first == again != other
    assert [sorted(names)] * 3 == [sorted(first[start : start + 4]) for start in (0, 4, 8)]


def test_any_is_whom_nobody_may_miss(mesh: Mesh) -> None:
    found = kills.candidates(mesh.status(), kills.KINDS_ANY)

    assert {"orders", "control-plane", "memcached", "etcd"} == {name.rpartition("-")[0] for name in found}
    assert ("relay-1", "relay-2") == kills.candidates(mesh.status(), [Kind.WORKER])


@pytest.mark.parametrize(
    ("every", "for_", "passed", "due"),
    [
        (None, None, 3.0, None),
        (5.0, None, 0.1, 5.0),
        (5.0, None, 5.0, 10.0),
        (5.0, None, 12.5, 15.0),  # the moments at 5 and at 10 went by while the last one was not back
        (5.0, 12.0, 4.0, 5.0),
        (5.0, 12.0, 10.5, None),
        (5.0, 10.0, 5.5, None),
    ],
)
def test_moments_that_went_by_are_left_out(
    every: float | None, for_: float | None, passed: float, due: float | None
) -> None:
    assert due == Pace(every, for_).next_due(passed)


# when somebody is back


def test_whoever_is_killed_is_back_when_another_process_is_ready(mesh: Mesh) -> None:
    before = mesh.status().process("orders-1").pid

    kills.strike(mesh, "orders-1", signal.SIGKILL)  # type: ignore[arg-type]

    after = mesh.status().process("orders-1")
    assert (["SIGKILL orders-1"], "ready", True) == (mesh.done, after.state, after.pid != before)


def test_whoever_is_stopped_goes_on_unless_it_was_replaced(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "STOPPED_S", 0.0)

    kills.strike(mesh, "orders-1", signal.SIGSTOP)  # type: ignore[arg-type]
    mesh.replaces = False
    kills.strike(mesh, "memcached-1", signal.SIGSTOP)  # type: ignore[arg-type]

    assert ["SIGSTOP memcached-1", "SIGCONT memcached-1"] == mesh.done[-2:]
    assert "SIGSTOP orders-1" == mesh.done[0]


def test_whoever_is_stopped_goes_on_when_the_wait_is_broken_off(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kills, "BACK_S", 0.0)
    mesh.replaces = False

    with pytest.raises(kills.NotBackError, match="memcached-1 is not ready again 0 s after SIGSTOP"):
        kills.strike(mesh, "memcached-1", signal.SIGSTOP)  # type: ignore[arg-type]

    assert ["SIGSTOP memcached-1", "SIGCONT memcached-1"] == mesh.done


def test_a_signal_that_ends_nobody_is_not_waited_for(mesh: Mesh) -> None:
    assert 0.0 == kills.strike(mesh, "orders-1", signal.SIGHUP)  # type: ignore[arg-type]


# rolling


def rolled(mesh: Mesh, service: str) -> list[str]:
    told: list[dict[str, Any]] = []

    def step(name: str, what: str) -> AbstractContextManager[dict[str, Any]]:
        @contextmanager
        def telling() -> Iterator[dict[str, Any]]:
            told.append({"name": name, "what": what})
            yield told[-1]

        return telling()

    rolling.roll(mesh, service, rolling.instances(mesh.status(), service), step=step)  # type: ignore[arg-type]
    return mesh.done


def test_a_service_is_never_fewer_than_before_while_it_is_rolled(mesh: Mesh) -> None:
    assert ["scale orders 3 for now", "restart orders-1", "restart orders-2", "scale orders 2 for now"] == rolled(
        mesh, "orders"
    )


def test_what_is_known_by_a_list_is_renewed_in_its_place(mesh: Mesh) -> None:
    assert ["restart control-plane-1", "restart control-plane-2"] == rolled(mesh, "control-plane")


@pytest.mark.parametrize(("service", "most"), [("orders", INSTANCES_MAX), ("gateway", GATEWAYS_MAX)])
def test_as_many_as_there_may_be_are_rolled_without_one_more(mesh: Mesh, service: str, most: int) -> None:
    mesh.scale(service, most)
    mesh.done.clear()

    assert [f"restart {service}-{number}" for number in range(1, most + 1)] == rolled(mesh, service)


def test_a_roll_that_fails_stops_there_and_keeps_the_one_more(mesh: Mesh) -> None:
    mesh.fails = "orders-1"

    with pytest.raises(RefusedError, match="orders-1 was stopped but is not ready again"):
        rolled(mesh, "orders")

    assert ["scale orders 3 for now", "restart orders-1"] == mesh.done


def test_a_service_that_is_not_whole_is_not_rolled(mesh: Mesh) -> None:
    mesh.replaces = False
    mesh._processes["orders-2"] = replace(mesh._processes["orders-2"], state="down")

    with pytest.raises(RefusedError, match="orders-2 of orders is not ready; nothing was begun"):
        rolled(mesh, "orders")
    assert [] == mesh.done


def test_ctrl_c_finishes_the_instance_at_hand_and_leaves_as_many_as_there_were(mesh: Mesh) -> None:
    def interrupted(name: str) -> Killed:
        signal.raise_signal(signal.SIGINT)
        return Mesh.restart(mesh, name)

    mesh.restart = interrupted  # type: ignore[method-assign]

    with pytest.raises(KeyboardInterrupt):
        rolled(mesh, "orders")

    assert ["scale orders 3 for now", "restart orders-1", "scale orders 2 for now"] == mesh.done


# what is told


def test_without_a_load_a_change_tells_what_it_did(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["kill", "orders-1", "--signal", "term"])
    assert "orders-1               TERM, back after" in capsys.readouterr().out

    assert 0 == run(["scale", "orders", "3", "--json"])
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert ("orders", ["orders-3"], [], True) == (
        found["targets"][0]["name"],
        found["targets"][0]["started"],
        found["targets"][0]["stopped"],
        found["good"],
    )
    assert "load" not in found
    assert "orders                 to 3, started orders-3" in said.err


def test_a_roll_that_fails_is_exit_one_and_says_why(mesh: Mesh, capsys: pytest.CaptureFixture[str]) -> None:
    mesh.fails = "relay-2"

    assert 1 == run(["roll", "relay"])
    assert "weft: relay-2 was stopped but is not ready again\n" == capsys.readouterr().err


@pytest.mark.parametrize(("loses", "code"), [(False, 0), (True, 1)])
def test_under_a_load_the_callers_decide_how_it_ends(
    loses: bool, code: int, mesh: Mesh, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(load, "WARM_UP_S", 0.05)
    monkeypatch.setattr(load, "COOL_DOWN_S", 0.05)
    monkeypatch.setattr(kills, "SETTLED_S", 0.0)
    (folder / "operator.email").write_text("operator@example.com")
    (folder / "operator.password").write_text("a password")
    with Market() as market:
        market.loses = loses
        mesh.gateway, mesh.secrets = market.address, folder
        arguments = ["kill", "any", "--every", "50ms", "--for", "300ms", "--seed", "3", "--under-load", "50", "--json"]
        assert code == run(arguments)
    found = json.loads(capsys.readouterr().out)

    assert (not loses, 0, 50) == (found["good"], found["load"]["errors"], found["load"]["rps"])
    assert {"requests", "latency_ms", "worst_gap_s", "streams", "stock"} <= found["load"].keys()
    names = list(itertools.islice(kills.order(kills.candidates(mesh.status(), kills.KINDS_ANY), seed=3), 6))
    targets = found["targets"]
    assert names[: len(targets)] == [target["name"] for target in targets]
    assert [(True, 0)] * len(targets) == [("back_after_s" in target, target["errors"]) for target in targets]
    assert targets


def test_a_target_is_told_in_one_line() -> None:
    killed = {"name": "orders-1", "what": "KILL", "seconds": 2.1, "back_after_s": 2.0}
    seen = {"errors": 0, "requests": 200, "worst_gap_s": 0.0312}

    assert "orders-1               KILL, back after 2.0 s" == target_line(killed)
    assert target_line(killed | seen).endswith("back after 2.0 s, 0 errors of 200, worst gap 0.031 s")
    assert "orders-1               KILL, failed" == target_line(
        {"name": "orders-1", "what": "KILL", "seconds": 120.0, "failed": "not ready again"}
    )


def test_a_load_that_is_no_number_is_a_wrong_argument() -> None:
    with pytest.raises(typer.BadParameter, match="--under-load nan"):
        change._wanted(float("nan"), 1)
