"""`weft check` before the first `weft up`: what is wrong with a machine is found, and what to do about it said."""

import re
import resource
from collections.abc import Iterable
from pathlib import Path

import pytest

from deploy.cli.doctor import machine
from deploy.cli.doctor.finding import Finding, State
from deploy.cli.doctor.machine import Program
from deploy.supervisor.config import Settings


def wrong(findings: Iterable[Finding]) -> list[tuple[State, str, str]]:
    """What is not right; each has to say what to do about it."""
    found = [one for one in findings if one.state is not State.OK]
    assert [] == [one.name for one in found if not one.hint]
    return [(one.state, one.name, one.detail) for one in found]


@pytest.mark.parametrize(
    ("said", "state", "detail"),
    [
        (None, State.FAIL, "is not installed"),
        ("etcd Version: 3.4.23\nGo Version: go1.19.8", State.OK, "3.4.23"),
        ("etcd Version: 3.3.9", State.FAIL, "3.3.9 is older than 3.4"),
        ("nothing of use", State.WARN, "does not say its version"),
    ],
)
def test_a_server_that_is_too_old_or_missing_is_named(said: str | None, state: State, detail: str) -> None:
    found = machine.version(Program("etcd", Path, ("--version",), (3, 4)), said)

    assert (state, detail) == (found.state, found.detail)


def test_packages_are_those_that_are_pinned() -> None:
    assert State.OK is machine.packages({"grpcio": "1"}, {"grpcio": "1", "more": "2"}).state
    found = machine.packages({"grpcio": "2", "typer": "1"}, {"grpcio": "1"})
    assert (State.FAIL, "grpcio 1 instead of 2, typer missing instead of 1") == (found.state, found.detail)


@pytest.mark.parametrize(("version", "state"), [((3, 10), State.FAIL), ((3, 11), State.OK), ((3, 13), State.FAIL)])
def test_python_is_one_that_is_supported(version: tuple[int, ...], state: State) -> None:
    assert state is machine.python(version).state


def test_room_on_the_disk_and_in_memory_is_measured_against_what_a_mesh_needs() -> None:
    assert [State.FAIL, State.WARN, State.OK] == [machine.disk(free << 30).state for free in (0, 2, 9)]
    assert [State.FAIL, State.WARN, State.OK] == [
        machine.memory(free << 20, running=False).state for free in (512, 1500, 4000)
    ]
    assert State.OK is machine.memory(512 << 20, running=True).state


def test_open_files_are_enough_for_connections() -> None:
    limits = (256, 1024, 65536, resource.RLIM_INFINITY)

    assert [State.FAIL, State.WARN, State.OK, State.OK] == [machine.open_files(limit).state for limit in limits]


def test_a_clock_before_the_files_of_the_clone_is_wrong() -> None:
    assert State.FAIL is machine.clock(True, behind_s=10.0).state
    assert State.OK is machine.clock(None, behind_s=-10.0).state


def test_a_data_directory_that_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    assert State.OK is machine.data(tmp_path / "new").state
    (tmp_path / "letter.txt").touch()
    assert State.FAIL is machine.data(tmp_path).state
    (tmp_path / machine.MARKER).touch()
    assert State.OK is machine.data(tmp_path).state


def test_a_port_of_the_gateways_that_is_taken_is_told_with_its_owner(listener: int) -> None:
    settings = Settings(Path("/none"), gateway_port=listener, gateway_tls_port=listener)

    found = wrong(machine.edge_ports(settings, running=False, owner=machine._owner))

    assert [(State.FAIL, f"port {listener}")] * 2 == [(state, name) for state, name, _ in found]
    assert re.search(r"is taken by .+ \(pid \d+\)", found[0][2])
    assert [] == wrong(machine.edge_ports(settings, running=True, owner=machine._owner))


def test_a_block_without_free_ports_is_told() -> None:
    assert State.FAIL is machine.block(21000, running=False, free=lambda port: port < 21010).state
    assert State.OK is machine.block(21000, running=False, free=lambda port: True).state


def test_this_machine_can_run_a_mesh(tmp_path: Path) -> None:
    # What the suite itself needs; ports and memory are those of the moment.
    found = {one.name: one for one in machine.look(Settings(tmp_path / "data"), running=True)}

    for name in ("Python", "generated code", "Envoy", "etcd", "PostgreSQL", "RabbitMQ", "Memcached", "account"):
        assert State.OK is found[name].state, found[name]
