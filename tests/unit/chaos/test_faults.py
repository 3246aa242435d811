"""A fault counts as felt when its process has ended or stands still, and for no other reason."""

import io
import json
import subprocess
from collections.abc import Iterator

import psutil
import pytest

from deploy.supervisor.messages import Process, Status
from tests.chaos import faults
from tests.chaos.faults import candidates
from tests.chaos.history import Event, Operation, Recorder, operations
from tests.chaos.schedule import Target
from tests.waiting import eventually


def process(
    name: str, kind: str, service: str = "", *, state: str = "ready", pid: int | None = 7, role: str = "member"
) -> Process:
    return Process(name, kind, service, pid, "127.0.0.1:1", state, 0, "2026-01-01T00:00:00Z", role)


STATUS = Status(
    "http://127.0.0.1:8080",
    {},
    (
        process("orders-2", "service", "orders"),
        process("orders-1", "service", "orders"),
        process("catalog-1", "service", "catalog", state="starting"),
        process("audit-1", "worker", "audit"),
        process("relay-1", "worker", "relay"),
        process("epmd", "rabbitmq"),
        process("rabbitmq-1", "rabbitmq"),
        process("postgres-1", "database", "postgres", role="leader"),
        process("archive-1", "worker", "archive", role="leader", state="starting"),
        process("etcd-1", "etcd", state="down", pid=None),
        process("memcached-1", "memcached"),
        process("control-plane-1", "control-plane", "control-plane"),
        process("gateway-1", "gateway", "gateway"),
    ),
)


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Target.SERVICE, ["orders-1", "orders-2"]),
        (Target.WORKER, ["audit-1"]),
        (Target.RELAY, ["relay-1"]),
        (Target.CONTROL_PLANE, ["control-plane-1"]),
        (Target.GATEWAY, ["gateway-1"]),
        (Target.MEMCACHED, ["memcached-1"]),
        (Target.ETCD, []),
        (Target.RABBITMQ, ["rabbitmq-1"]),
        (Target.DATABASE, ["postgres-1"]),
        (Target.LEADER, ["postgres-1"]),
    ],
)
def test_only_parts_that_run_are_hurt_and_always_in_one_order(target: Target, names: list[str]) -> None:
    assert names == [each.name for each in candidates(STATUS, target)]


@pytest.fixture
def parent() -> Iterator["subprocess.Popen[bytes]"]:
    """A shell that waits for a child."""
    with subprocess.Popen(["sh", "-c", "sleep 300 & wait"]) as started:
        yield started
        for each in [*psutil.Process(started.pid).children(), started]:
            each.kill()


def freeze(victims: list[psutil.Process], seconds: float) -> Operation:
    out = io.StringIO()
    pending = Recorder(out).begin("fault", step=0, fault="freeze", target="relay")
    faults.freeze(pending, "relay-1", victims, seconds)
    (found,) = operations(Event(**json.loads(line)) for line in out.getvalue().splitlines())
    return found


def test_a_frozen_part_stands_still_with_all_below_it_and_goes_on_afterwards(
    parent: "subprocess.Popen[bytes]",
) -> None:
    root = psutil.Process(parent.pid)
    eventually(root.children)
    victims = [root, *root.children()]

    found = freeze(victims, 0.2)

    assert ("ok", {"name": "relay-1", "pid": parent.pid}) == (found.outcome, found.said)
    assert found.ended_s - found.began_s >= 0.2
    assert psutil.STATUS_STOPPED not in {each.status() for each in victims}


def test_a_freeze_of_what_has_ended_was_not_felt(parent: "subprocess.Popen[bytes]") -> None:
    root = psutil.Process(parent.pid)
    eventually(root.children)
    (child,) = root.children()
    child.kill()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)

    found = freeze([child], 0.1)

    assert "fail" == found.outcome
    assert "did not stand still" in found.said["why"]
