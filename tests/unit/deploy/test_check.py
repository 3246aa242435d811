"""`weft check`: each thing it looks at is found when it is wrong, is quiet when it is right, and says what to do."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import exits
from deploy.cli.__main__ import run
from deploy.cli.doctor import edge, finding, parts, running, stores
from deploy.cli.doctor.finding import Finding, Group, State
from deploy.cli.doctor.stores import Queue, Standby
from deploy.supervisor.config import PROJECT
from deploy.supervisor.messages import Process, Status

NOW = datetime(2026, 6, 1, tzinfo=UTC)
GROUP = Group("a group")


def process(name: str, kind: str = "service", **changed: Any) -> Process:
    service, number = name.rpartition("-")[0], name.rpartition("-")[2]
    address = f"127.0.0.1:{20000 + int(number)}"
    made = Process(name, kind, service, 7, address, "ready", 0, "2026-01-01T00:00:00.000Z", "member")
    return replace(made, **changed)


def status(*processes: Process) -> Status:
    return Status("http://127.0.0.1:8080", {}, processes)


WHOLE = status(
    process("orders-1"),
    process("orders-2"),
    process("etcd-1", "etcd", role="leader"),
    process("etcd-2", "etcd"),
    process("gateway-1", "gateway"),
    process("control-plane-1", "control-plane"),
)


def states(findings: Iterable[Finding]) -> dict[str, State]:
    return {one.name: one.state for one in findings}


def wrong(findings: Iterable[Finding]) -> list[tuple[State, str, str]]:
    """What is not right; each has to say what to do about it."""
    found = [one for one in findings if one.state is not State.OK]
    assert [] == [one.name for one in found if not one.hint]
    return [(one.state, one.name, one.detail) for one in found]


def test_a_whole_mesh_is_right() -> None:
    assert {"ready": State.OK} == states(parts.processes(WHOLE, now=NOW))
    assert {"leader of etcd": State.OK} == states(parts.leaders(WHOLE))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"state": "down", "reason": "killed by KILL"}, (State.FAIL, "orders-1", "is down, killed by KILL")),
        (
            {"state": "down", "quarantined": True, "reason": "exit code 2"},
            (State.FAIL, "orders-1", "died again and again, last: exit code 2"),
        ),
        (
            {"restarts": 1, "since": "2026-05-31T23:59:50.000Z"},
            (State.WARN, "orders-1", "was started again less than a minute ago"),
        ),
    ],
)
def test_a_part_that_dies_is_named(changed: dict[str, Any], expected: tuple[State, str, str]) -> None:
    found = status(process("orders-1", **changed), process("orders-2"))

    assert [expected] == wrong(parts.processes(found, now=NOW))


def test_a_part_that_was_started_again_long_ago_is_right() -> None:
    assert [] == wrong(parts.processes(status(process("orders-1", restarts=3)), now=NOW))


def test_a_setting_that_the_mesh_does_not_have_is_named() -> None:
    found = wrong(parts.processes(WHOLE, now=NOW, differences=("gateway_port", "ha")))

    assert [(State.WARN, "settings", "of this shell are not those of the mesh: gateway_port, ha")] == found


@pytest.mark.parametrize(("roles", "says"), [(("member", "member"), "none"), (("leader", "leader"), "2 at once")])
def test_a_cluster_has_one_leader(roles: tuple[str, str], says: str) -> None:
    members = [process(f"etcd-{number}", "etcd", role=role) for number, role in enumerate(roles, 1)]

    ((state, _, detail),) = wrong(parts.leaders(status(*members)))

    assert (State.FAIL, True) == (state, detail.startswith(says))


def endpoint(name: str, **changed: Any) -> dict[str, Any]:
    port = 20000 + int(name.rpartition("-")[2])
    return {
        "service": name.rpartition("-")[0],
        "instance": name,
        "address": "127.0.0.1",
        "port": port,
        "version": "1",
        "lane": "",
        **changed,
    }


def test_what_is_registered_is_what_runs() -> None:
    found = [endpoint("orders-1"), endpoint("orders-2"), endpoint("gateway-1", service="edge")]

    assert {"endpoints and leases": State.OK} == states(parts.endpoints(found, WHOLE))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([endpoint("orders-1")], (State.FAIL, "endpoints", "orders-2 is ready and not registered")),
        ([endpoint("orders-1"), endpoint("orders-2", port=1)], (State.FAIL, "endpoints", "orders-2 is registered at")),
        (
            [endpoint("orders-1"), endpoint("orders-2"), endpoint("orders-9")],
            (State.WARN, "endpoints", "orders-9 is registered and not started here"),
        ),
        (
            [endpoint("orders-1"), endpoint("orders-2", version="2")],
            (State.WARN, "versions", "orders runs 1 and 2 at once"),
        ),
    ],
)
def test_what_the_registry_has_wrong_is_named(found: list[dict[str, Any]], expected: tuple[State, str, str]) -> None:
    ((state, name, detail),) = wrong(parts.endpoints(found, WHOLE))

    assert (*expected[:2], True) == (state, name, detail.startswith(expected[2]))


def test_a_lease_that_outlives_its_process_is_noted() -> None:
    down = status(process("orders-1", state="down", pid=None))

    assert [(State.WARN, "leases", "orders-1 is down and still registered")] == wrong(
        parts.endpoints([endpoint("orders-1")], down)
    )


def client(node: str = "gateway-1", state: str = "SYNCED", **more: Any) -> dict[str, Any]:
    return {"node": node, "state": state, "age_s": 0.0, "refusals": [], "control_plane": "control-plane-1", **more}


def plane(name: str = "control-plane-1", version: str = "a" * 64, **more: Any) -> dict[str, Any]:
    return {"instance": name, "version": version, "refused_version": "", "problems": [], **more}


def proxies(*clients: dict[str, Any], planes: Iterable[dict[str, Any]] = ()) -> dict[str, Any]:
    return {"clients": clients, "control_planes": [*planes] or [plane()]}


def test_clients_that_have_everything_are_right() -> None:
    assert {"snapshot": State.OK, "clients": State.OK} == states(parts.planes(proxies(client()), WHOLE))


REFUSAL = {"type": "Listener", "version": "1", "detail": "no such\nfilter"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            proxies(client(state="NACKED", refusals=[REFUSAL])),
            (State.FAIL, "gateway-1", "refuses its configuration: Listener: no such filter"),
        ),
        (proxies(client(state="STALE", age_s=60.0)), (State.WARN, "gateway-1", "is behind for 60 s")),
        (proxies(), (State.FAIL, "clients", "gateway-1 is connected to no control plane")),
        (proxies(client(), planes=[plane(version="")]), (State.FAIL, "snapshot", "nothing is served")),
        (
            proxies(client(), planes=[plane(), plane("control-plane-2", "b" * 64)]),
            (State.WARN, "snapshot", "control-plane-1 aaaaaaaaaaaa, control-plane-2 bbbbbbbbbbbb"),
        ),
        (
            proxies(client(), planes=[plane(refused_version="c", problems=["no cluster orders"])]),
            (State.FAIL, "control-plane-1", "refused what was published last: no cluster orders"),
        ),
        (
            proxies(client(), planes=[plane("control-plane-2")]),
            (State.WARN, "reports", "nothing is said by control-plane-1"),
        ),
    ],
)
def test_what_control_planes_and_clients_have_wrong_is_named(
    found: dict[str, Any], expected: tuple[State, str, str]
) -> None:
    assert expected in wrong(parts.planes(found, WHOLE))


def test_a_client_that_is_behind_for_a_moment_is_right() -> None:
    assert [] == wrong(parts.planes(proxies(client(state="STALE", age_s=1.0)), WHOLE))


METRICS = """\
# TYPE rabbitmq_detailed_queue_messages_ready gauge
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="weft.email"} 2
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="weft.email.dead"} 3
rabbitmq_detailed_queue_messages_ready{vhost="/",queue="somebody.else"} 9
# TYPE rabbitmq_detailed_queue_messages gauge
rabbitmq_detailed_queue_messages{vhost="/",queue="weft.email"} 4
rabbitmq_detailed_queue_messages{vhost="/",queue="weft.email.dead"} 3
# TYPE rabbitmq_detailed_queue_consumers gauge
rabbitmq_detailed_queue_consumers{vhost="/",queue="weft.email"} 1
rabbitmq_detailed_queue_consumers{vhost="/",queue="weft.email.dead"} 0
"""
ALARMS = """\
# TYPE rabbitmq_alarms_memory_used_watermark untyped
rabbitmq_alarms_memory_used_watermark 1
# TYPE rabbitmq_alarms_free_disk_space_watermark untyped
rabbitmq_alarms_free_disk_space_watermark 0
"""


def test_queues_and_alarms_are_read_as_the_broker_writes_them() -> None:
    expected = {"weft.email": Queue(1, 2, 4), "weft.email.dead": Queue(0, 3, 3)}

    assert expected == stores.queues_of(METRICS)
    assert ["memory"] == stores.alarms_of(ALARMS)


def test_dead_letters_and_alarms_are_told_and_a_retry_queue_needs_no_consumer() -> None:
    queues = {**stores.queues_of(METRICS), "weft.email.retry.2s": Queue(0, 5, 5)}

    found = wrong(stores.broker(queues, {"rabbitmq-1": ["memory"]}))

    assert [
        (State.FAIL, "alarms", "rabbitmq-1 is short of memory, and makes publishers wait"),
        (State.WARN, "dead letters", "3 of email"),
    ] == found


@pytest.mark.parametrize(
    ("queues", "expected"),
    [
        ({"weft.audit": Queue(0, 0, 0)}, (State.FAIL, "consumers", "nobody consumes weft.audit")),
        ({"weft.audit": Queue(1, 5000, 5000)}, (State.WARN, "waiting", "weft.audit 5000 messages")),
        ({}, (State.FAIL, "queues", "there are none")),
    ],
)
def test_a_queue_that_nobody_empties_is_named(queues: dict[str, Queue], expected: tuple[State, str, str]) -> None:
    assert [expected] == wrong(stores.broker(queues, {"rabbitmq-1": []}))


def test_the_hint_names_the_process_of_the_worker_and_not_a_service_of_its_name() -> None:
    found = list(stores.broker({"weft.analytics": Queue(0, 0, 0)}, {"rabbitmq-1": []}))

    assert ["`weft logs analytics-worker` says why"] == [one.hint for one in found if one.name == "consumers"]


def database(name: str = "orders", **changed: Any) -> dict[str, Any]:
    known = {"error": "", "isolation": "serializable", "revision": "0004", "head": "0004", "clock_s": 0.01}
    return {"name": name, **known, **changed}


def test_databases_that_are_as_they_should_be_are_right() -> None:
    found = states(stores.databases([database(), database("catalog")]))

    assert {"isolation": State.OK, "migrations": State.OK, "clock": State.OK} == found


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"isolation": "read committed"}, (State.FAIL, "isolation", "orders has read committed")),
        ({"revision": "0003"}, (State.FAIL, "migrations", "orders is at 0003 and not at 0004")),
        ({"revision": ""}, (State.FAIL, "migrations", "orders is at nothing and not at 0004")),
        ({"error": "refused"}, (State.FAIL, "orders", "does not answer: refused")),
        ({"clock_s": -7.0}, (State.FAIL, "clock", "7.0 s behind")),
        ({"clock_s": 2.0}, (State.WARN, "clock", "2.0 s ahead")),
    ],
)
def test_a_database_that_is_not_is_named(changed: dict[str, Any], expected: tuple[State, str, str]) -> None:
    assert [expected] == wrong(stores.databases([database(**changed)]))


@pytest.mark.parametrize(
    ("said", "asked", "expected"),
    [
        ((10.0, 10.0), (9.0, 30.0), 0.0),  # a slow answer says nothing of the clock
        ((10.0, 11.5), (11.0, 11.1), 0.0),
        ((20.0, 20.0), (9.0, 10.0), 10.0),
        ((5.0, 6.0), (9.0, 10.0), -3.0),
    ],
)
def test_clocks_differ_only_where_they_cannot_show_the_same(
    said: tuple[float, float], asked: tuple[float, float], expected: float
) -> None:
    assert expected == stores.ahead(said, asked)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([Standby("postgres-2", "streaming", 0.1), Standby("postgres-3", "streaming", 0.0)], []),
        (
            [Standby("postgres-2", "streaming", 20.0), Standby("postgres-3", "streaming", 0.0)],
            [(State.WARN, "postgres-2", "is 20.0 s behind its leader")],
        ),
        ([Standby("postgres-2", "streaming", 0.0)], [(State.WARN, "standbys", "1 of 2")]),
        (
            [Standby("postgres-2", "catchup", 0.0), Standby("postgres-3", "streaming", 0.0)],
            [(State.WARN, "postgres-2", "is catchup, not streaming")],
        ),
    ],
)
def test_standbys_that_fall_behind_are_named(found: list[Standby], expected: list[tuple[State, str, str]]) -> None:
    assert expected == wrong(stores.replicas(found, wanted=2))
    assert [] == list(stores.replicas([], wanted=0))


def test_a_cache_that_is_away_is_named() -> None:
    assert [(State.FAIL, "memcached", "no answer from memcached-2")] == wrong(
        stores.caches({"memcached-1": {"version": "1.6"}, "memcached-2": {}})
    )
    assert [] == wrong(stores.caches({"memcached-1": {"version": "1.6"}}))


@pytest.mark.parametrize(
    ("left", "state"), [(timedelta(hours=12), State.OK), (timedelta(hours=10), State.FAIL), (timedelta(), State.FAIL)]
)
def test_certificates_of_parts_are_watched_before_the_first_ends(left: timedelta, state: State) -> None:
    assert state is edge.identities(NOW + left, now=NOW).state


@pytest.mark.parametrize(
    ("left", "state"),
    [
        (timedelta(days=20), State.OK),
        (timedelta(days=5), State.WARN),
        (timedelta(hours=5), State.FAIL),
        (timedelta(hours=-1), State.FAIL),
    ],
)
def test_a_certificate_is_watched_before_it_ends(left: timedelta, state: State) -> None:
    found = edge.certificate(NOW + left, now=NOW, own=False)

    assert state is found.state
    assert (state is not State.OK) == bool(found.hint)


@pytest.mark.parametrize(
    ("signing", "state"), [([True, False], State.OK), ([], State.FAIL), ([False], State.FAIL), ([True] * 2, State.FAIL)]
)
def test_exactly_one_key_signs(signing: list[bool], state: State) -> None:
    assert state is edge.keys(signing).state


def test_alerts_are_told_with_their_runbook_and_pages_are_wrong() -> None:
    notes = {"summary": "No.", "runbook_url": "docs/runbooks/ServiceDown.md"}
    found = [
        {"labels": {"alertname": "ServiceDown", "severity": "page"}, "annotations": notes},
        {"labels": {"alertname": "DeadLetters", "severity": "ticket"}, "annotations": notes},
    ]

    assert [(State.FAIL, "ServiceDown", "No."), (State.WARN, "DeadLetters", "No.")] == wrong(edge.alerts(found))
    assert [] == wrong(edge.alerts([]))
    assert 1 == sum(one.hint == "docs/runbooks/ServiceDown.md" for one in edge.alerts(found[:1]))


def test_what_is_not_scraped_is_named() -> None:
    down = {"health": "down", "labels": {"instance": "orders-1"}}

    assert State.WARN is edge.targets([down]).state
    assert State.OK is edge.targets([{**down, "health": "up"}]).state


def test_a_part_that_cannot_be_asked_is_a_finding_and_stops_no_other() -> None:
    def broken() -> Iterator[Finding]:
        yield GROUP.ok("first")
        raise ConnectionRefusedError("nobody\nlistens")

    before, found = running._guarded(GROUP, "etcd", broken)

    assert GROUP.ok("first") == before
    assert (State.FAIL, "etcd", "cannot be asked: nobody listens") == (found.state, found.name, found.detail)
    assert found.hint


def test_findings_are_told_in_groups_with_their_hint_and_a_summary() -> None:
    found = [GROUP.ok("one", "1"), GROUP.warn("two", "is odd", "do this"), Group("b").fail("three", "no", "do that")]

    assert [
        "a group",
        "  ok    one: 1",
        "  warn  two: is odd",
        "        do this",
        "",
        "b",
        "  fail  three: no",
        "        do that",
    ] == list(finding.lines(found, colour=False))
    assert "1 right, 1 to look at, 1 wrong" == finding.summary(found)
    assert "\x1b[31mfail\x1b[0m" in "\n".join(finding.lines(found, colour=True))


@pytest.mark.parametrize(
    ("found", "runs", "pre", "code"),
    [
        ([GROUP.ok("one")], True, False, 0),
        ([GROUP.warn("one", "odd", "look")], True, False, 0),
        ([GROUP.fail("one", "no", "mend")], True, False, exits.FAILED),
        ([GROUP.ok("one")], False, False, exits.UNREACHABLE),
        ([GROUP.ok("one")], False, True, 0),
        ([GROUP.fail("one", "no", "mend")], False, False, exits.FAILED),
    ],
)
def test_the_exit_code_says_whether_something_is_wrong(found: list[Finding], runs: bool, pre: bool, code: int) -> None:
    assert code == finding.exit_code(found, running=runs, only_machine=pre)
    assert (code == 0) == finding.as_object(found, running=runs, only_machine=pre)["ok"]


@pytest.fixture
def nothing_runs(folder: Path, listener: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory that nobody has used, and ports of which one is taken."""
    monkeypatch.setenv("WEFT_DATA", str(folder / "mesh"))
    monkeypatch.setenv("WEFT_GATEWAY_PORT", str(listener))
    return folder / "mesh"


def test_without_a_mesh_it_says_what_can_be_said_and_touches_nothing(
    nothing_runs: Path, listener: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exits.FAILED == run(["check", "--json"])

    said = json.loads(capsys.readouterr().out)
    checks = {one["name"]: one for one in said["checks"]}
    assert (False, False) == (said["ok"], said["running"])
    assert "fail" == checks[f"port {listener}"]["state"]
    assert "WEFT_GATEWAY_PORT" in checks[f"port {listener}"]["hint"]
    assert ("none", "`weft up` starts one") == (checks["mesh"]["state"], checks["mesh"]["hint"])
    assert not nothing_runs.exists()


def test_waiting_ends_when_its_time_is_up(nothing_runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.FAILED == run(["check", "--pre", "--wait", "500ms"])

    assert "this machine" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--wait", "soon"], ["--bogus"]])
def test_a_wrong_argument_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert exits.USAGE == run(["check", *arguments])
    assert 1 == capsys.readouterr().err.count("\n")


def test_every_runbook_that_is_pointed_to_is_there() -> None:
    named = {
        name
        for path in (PROJECT / "deploy" / "cli" / "doctor").glob("*.py")
        for name in re.findall(r"docs/runbooks/\w+\.md", path.read_text())
    }

    assert named
    assert set() == {name for name in named if not (PROJECT / name).is_file()}
