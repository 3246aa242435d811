"""The supervisor's door: what it shows to Prometheus, and whom it lets ask for help."""

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.supervisor import door as doors
from deploy.supervisor.door import Door
from deploy.supervisor.exposition import Snapshot, expose
from deploy.supervisor.messages import Process
from tests.waiting import free_port

TOKEN = "a-token-of-the-test"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Opened:
    """A door with a loop behind it."""

    port: int
    received: list[Mapping[str, Any]] = field(default_factory=list)
    hangs: bool = False

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content


@contextmanager
def opened(port: int | None = None) -> Iterator[Opened]:
    """A door, with its loop in a thread."""
    loop, found = asyncio.new_event_loop(), Opened(port or free_port())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def snapshot() -> Snapshot:
        if found.hangs:
            await asyncio.Event().wait()
        return Snapshot([process("orders-1")], {("restart", "taken"): 2})

    async def receive(notification: Mapping[str, Any]) -> object:
        if "alerts" not in notification:
            raise ValueError("alerts: not a list")
        found.received.append(notification)
        return None

    async def make() -> Door:
        made = Door(found.port, token=TOKEN, snapshot=snapshot, receive=receive)
        made.open()
        return made

    try:
        made = asyncio.run_coroutine_threadsafe(make(), loop).result(30)
        try:
            yield found
        finally:
            asyncio.run_coroutine_threadsafe(made.close(), loop).result(30)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def door() -> Iterator[Opened]:
    with opened() as found:
        yield found


def process(name: str, *, kind: str = "service", state: str = "ready", pid: int | None = 1, port: int = 1) -> Process:
    address = f"127.0.0.1:{port}"
    return Process(name, kind, name.rpartition("-")[0], pid, address, state, 3, "2026-01-01T00:00:00Z", "member")


def samples(exposition: bytes) -> dict[str, dict[str, float]]:
    """Values by metric and instance."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("instance", sample.labels.get("outcome", ""))] = (
                sample.value
            )
    return found


def test_prometheus_reads_what_the_supervisor_knows(door: Opened) -> None:
    status, content = door.ask("GET", "/metrics")

    assert 200 == status
    found = samples(content)
    assert ({"orders-1": 1.0}, {"orders-1": 3.0}) == (
        found["weft_process_ready"],
        found["weft_process_restarts_total"],
    )
    assert {"taken": 2.0} == found["weft_recoveries_total"]


def test_a_notification_with_the_token_gets_through(door: Opened) -> None:
    notification = {"alerts": [{"status": "firing", "labels": {"recovery": "restart"}}]}

    assert (200, b"") == door.ask("POST", "/recovery", json.dumps(notification).encode(), AUTHORIZED)
    assert notification in door.received


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/recovery", b"{}", {}, 401),
        ("/recovery", b"{}", {"Authorization": "Bearer another"}, 401),
        ("/recovery", b"{}", {"Authorization": f"Basic {TOKEN}"}, 401),
        ("/recovery", b"{}", {"Authorization": "Bearer "}, 401),
        ("/recovery", b"{}", {"Authorization": "Bearer \xe9"}, 401),
        ("/metrics", b"{}", AUTHORIZED, 404),
        ("/recovery", b"{", AUTHORIZED, 400),
        ("/recovery", b"[]", AUTHORIZED, 400),
        ("/recovery", b"{}", AUTHORIZED, 400),
        ("/recovery", b"\xff", AUTHORIZED, 400),
        ("/recovery", b"[" * 100_000, AUTHORIZED, 400),
        ("/recovery", b"{}", {**AUTHORIZED, "Content-Length": "-2"}, 411),
        ("/recovery", b"{}", {**AUTHORIZED, "Content-Length": "262145"}, 413),
    ],
)
def test_everything_else_is_refused(door: Opened, path: str, body: bytes, headers: dict[str, str], status: int) -> None:
    before = len(door.received)

    assert status == door.ask("POST", path, body, headers)[0]
    assert before == len(door.received)
    assert 200 == door.ask("GET", "/metrics")[0]


def test_only_the_metrics_can_be_read(door: Opened) -> None:
    assert 404 == door.ask("GET", "/recovery", headers=AUTHORIZED)[0]
    assert 501 == door.ask("DELETE", "/metrics")[0]


def test_a_loop_that_hangs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "LOOP_TIMEOUT_S", 0.05)
    with opened() as door:
        door.hangs = True

        assert 503 == door.ask("GET", "/metrics")[0]


def test_the_next_door_opens_on_the_port_of_one_that_is_shut() -> None:
    with opened() as first:
        assert 200 == first.ask("GET", "/metrics")[0]

    with opened(first.port) as second:
        assert 200 == second.ask("GET", "/metrics")[0]


def test_a_process_in_quarantine_is_shown_to_be() -> None:
    looping = replace(process("orders-2", pid=None, state="down"), quarantined=True)

    found = samples(expose(Snapshot([process("orders-1"), looping], {})))

    assert {"orders-1": 0.0, "orders-2": 1.0} == found["weft_process_quarantined"]


def test_a_process_is_shown_with_what_it_started() -> None:
    mine = process("orders-1", pid=os.getpid())

    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        parent = samples(expose(Snapshot([mine, process("child-1", pid=child.pid)], {})))
        child.communicate()

    both = parent["weft_process_resident_bytes"]
    assert both["orders-1"] > both["child-1"] > 0
    assert parent["weft_process_cpu_seconds_total"]["orders-1"] > 0


def test_a_process_that_has_ended_uses_nothing() -> None:
    found = samples(expose(Snapshot([process("orders-1", pid=None, state="down")], {})))

    assert {"orders-1": 0.0} == found["weft_process_ready"]
    assert "weft_process_resident_bytes" not in found


def test_a_memcached_that_does_not_answer_is_down_and_costs_no_other_figure() -> None:
    caches = [process("memcached-1", kind="memcached", port=free_port()), process("orders-1")]

    found = samples(expose(Snapshot(caches, {})))

    assert {"memcached-1": 0.0} == found["memcached_up"]
    assert "memcached_current_items" not in found
    assert {"memcached-1", "orders-1"} == set(found["weft_process_ready"])
