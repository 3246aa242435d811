"""The cache while a Memcached is gone, frozen, full, slow or lying: slower, never wrong, never a failed write."""

import contextlib
import itertools
import queue
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client import REGISTRY

from svc.chassis.cache import node
from tests.memcached_process import MemcachedProcess
from tests.unit.svc.chassis_data.kept import METHOD, PATIENT_S, Opener, Process, Source, processes
from tests.waiting import eventually

HASTY_S = 0.02


@pytest.fixture
def memcached() -> Iterator[MemcachedProcess]:
    with MemcachedProcess() as started:
        yield started


@pytest.fixture
def opened() -> Iterator[Opener]:
    with processes() as opener:
        yield opener


def owed(memcached: MemcachedProcess) -> float:
    return REGISTRY.get_sample_value("weft_cache_owed", {"node": memcached.name}) or 0.0


def test_a_node_that_is_gone_is_a_miss(opened: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        gone = free.getsockname()[:2]
    process, source = opened(gone), Source()

    assert not process.forget("22423")
    assert ["mug"] * 3 == [process.get("22423", source) for _ in range(3)]


def test_a_frozen_node_is_asked_a_few_times_and_then_left_alone(opened: Opener, memcached: MemcachedProcess) -> None:
    process, source = opened(memcached.address, answer_s=HASTY_S), Source()
    process.get("warm", source)

    with memcached.stopped():
        began = time.process_time(), time.monotonic()
        for number in range(200):
            assert "mug" == process.get(str(number), source)
        waited_s = time.monotonic() - began[1]

    # Two hundred time limits and as many of connections would be eight seconds; generous, because machines are busy.
    assert waited_s < 4.0
    assert 201 == source.loads


def test_what_a_frozen_node_was_to_forget_is_forgotten_when_it_goes_on(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    process, other = opened(memcached.address, answer_s=HASTY_S), opened(memcached.address)
    process.get("22423", Source("old"))

    with memcached.stopped():
        assert not process.forget("22423")
        assert 1 == owed(memcached)

    # The writer reads the new value at once, a bystander as soon as the debt is paid, by nobody's call.
    assert "new" == process.get("22423", Source("new"))
    eventually(lambda: owed(memcached) == 0)
    assert "new" == other.get("22423", Source("new"))


def test_a_debt_is_paid_although_nobody_calls_any_more(opened: Opener) -> None:
    with MemcachedProcess() as memcached:
        process, other = opened(memcached.address, answer_s=HASTY_S), opened(memcached.address)
        process.get("22423", Source("old"))
        with memcached.stopped():
            assert not process.forget("22423")

        eventually(lambda: not memcached.holds(process.slot("22423")))

        assert "new" == other.get("22423", Source("new"))


def test_what_a_writer_that_dies_still_owed_is_forgotten_through_the_relay(
    opened: Opener, memcached: MemcachedProcess
) -> None:
    writer, relay, other = (opened(memcached.address, answer_s=limit) for limit in (HASTY_S, HASTY_S, PATIENT_S))
    other.get("22423", Source("old"))

    with memcached.stopped():
        assert not writer.forget("22423")
        writer.cache.close()
        assert not relay.cache.forget([METHOD], ["22423"], everywhere=True)

    eventually(lambda: "new" == other.get("22423", Source("new")))


def test_a_debt_is_void_when_all_that_it_is_about_has_expired(opened: Opener, memcached: MemcachedProcess) -> None:
    process = opened(memcached.address, answer_s=HASTY_S)
    (only,) = process.cache._nodes.values()
    memcached.kill()

    assert not only.forget(["slot"], keep_s=0.2)

    eventually(lambda: owed(memcached) == 0)
    assert {} == only._owed


def test_a_node_that_missed_too_much_forgets_everything(
    opened: Opener, memcached: MemcachedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "OWED_MAX", 3)
    process, other = opened(memcached.address, answer_s=HASTY_S), opened(memcached.address)
    process.get("innocent", Source("old"))

    def overtaken() -> str:
        with memcached.stopped():
            process.forget(*map(str, range(10)))
        eventually(lambda: memcached.stat("cmd_flush"))
        return "old"

    # Also the lease that somebody took before.
    assert "old" == other.get("5", overtaken)
    assert ["new", "new"] == [other.get(key, Source("new")) for key in ("innocent", "5")]


def test_a_restart_is_not_even_noticed(opened: Opener, memcached: MemcachedProcess) -> None:
    process, source = opened(memcached.address), Source()
    process.get("22423", source)

    memcached.restart()

    assert ["mug"] * 2 == [process.get("22423", source) for _ in range(2)]
    assert 2 == source.loads


def test_only_the_keys_of_a_dead_node_miss_and_none_moves(opened: Opener) -> None:
    with MemcachedProcess() as first, MemcachedProcess() as second, MemcachedProcess() as third:
        process = opened(first.address, second.address, third.address)
        source, keys = Source(), [str(number) for number in range(60)]
        for key in keys:
            process.get(key, source)
        homes = {key: process.cache.node(process.slot(key)).name for key in keys}
        assert 3 == len(set(homes.values()))
        lost = [key for key in keys if homes[key] == first.name]

        first.kill()
        for key in keys:
            assert "mug" == process.get(key, source)

        assert 60 + len(lost) == source.loads
        for other in (second, third):
            assert [] == [key for key in lost if other.holds(process.slot(key))]


def test_a_full_node_forgets_and_never_lies(opened: Opener) -> None:
    with MemcachedProcess(memory_mb=2) as memcached:
        process = opened(memcached.address)
        for number in range(400):
            value = f"{number} " + "x" * 50_000
            assert value == process.get(str(number), lambda value=value: value)  # type: ignore[misc]
        for number in range(400):
            value = f"{number} " + "x" * 50_000
            assert value == process.get(str(number), lambda value=value: value)  # type: ignore[misc]
        assert memcached.stat("evictions") > 0


class Flushed(socketserver.ThreadingTCPServer):
    """Has an outdated value of everything until it is told to forget, and answers each such command when it is let."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Flushing)
        self.asked: list[str] = []
        self.answers: list[queue.SimpleQueue[bytes]] = [queue.SimpleQueue() for _ in range(4)]
        self._flushes = itertools.count()
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, command: str) -> bytes:
        if command == "stats":
            return b"STAT pid 1\r\nSTAT time 2\r\nSTAT uptime 1\r\nEND\r\n"
        if command == "flush_all":
            answer = self.answers[next(self._flushes)]
            self.asked.append(command)
            return answer.get()
        self.asked.append(command)
        return b"EN\r\n"


class Flushing(socketserver.StreamRequestHandler):
    """A connection of it. An empty answer closes it."""

    server: Flushed

    def handle(self) -> None:
        for line in self.rfile:
            answer = self.server.answer(line.split()[0].decode())
            if not answer:
                return
            self.wfile.write(answer)


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Flushed, node.Node]]:
    """A node that forgets everything where it is to forget anything, and the server behind it."""
    monkeypatch.setattr(node, "OWED_MAX", 0)
    with Flushed() as server:
        host, port = server.server_address[:2]
        asked = node.Node("flushed", (str(host), port), answer_s=PATIENT_S)
        yield server, asked
        for answer in server.answers:
            answer.put(b"OK\r\n")
        asked.close()
        server.shutdown()


def test_nothing_is_read_from_a_node_that_has_not_answered_yet_that_it_forgot_everything(
    flushed: tuple[Flushed, node.Node],
) -> None:
    server, asked = flushed
    with ThreadPoolExecutor() as pool:
        forgetting = pool.submit(asked.forget, ["22423"], keep_s=60)
        eventually(lambda: ["flush_all"] == server.asked)
        reading = pool.submit(asked.ask, b"mg 22423 v\r\n")
        eventually(lambda: len(server.asked) > 1)
        before = list(server.asked)
        for answer in server.answers:
            answer.put(b"OK\r\n")

        assert ["flush_all", "flush_all"] == before
        assert forgetting.result()
        assert b"EN" == reading.result()[0].code
        assert ["flush_all", "flush_all", "mg"] == server.asked


def test_what_is_owed_while_a_node_forgets_everything_is_not_paid_for_by_that(
    flushed: tuple[Flushed, node.Node],
) -> None:
    server, asked = flushed
    with ThreadPoolExecutor() as pool:
        first = pool.submit(asked.forget, ["22423"], keep_s=60)
        eventually(lambda: ["flush_all"] == server.asked)
        second = pool.submit(asked.forget, ["85123"], keep_s=60)
        eventually(lambda: 2 == len(server.asked))
        # The later one's command is lost; whether the earlier one came before its commit nobody can tell.
        server.answers[1].put(b"SERVER_ERROR busy\r\n")
        assert not second.result()
        server.answers[0].put(b"OK\r\n")
        assert first.result()
        for answer in server.answers[2:]:
            answer.put(b"OK\r\n")

        asked.ask(b"mg 85123 v\r\n")

    assert ["flush_all"] * 3 == server.asked[:3]


class Liar(socketserver.BaseRequestHandler):
    """Answers everything with the same bytes, one by one where there are many."""

    says = b""
    pause_s = 0.0

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            while self.request.recv(65_536):
                for byte in self.says:
                    self.request.sendall(bytes([byte]))
                    if self.pause_s:
                        threading.Event().wait(self.pause_s)


LIES = {
    "silence at the end": b"STAT pid 1\r\nSTAT time 2\r\nSTAT uptime 1\r\nEND\r\n",
    "not Memcached": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "no version": b"END\r\n",
    "errors": b"SERVER_ERROR out of memory\r\n",
    "more than was asked for": b"EN\r\nVA 3 t1 c1\r\nxyz\r\n",
    "a value without end": b"VA 99999999999 t1 c1\r\nxyz\r\n",
    "a negative value": b"VA -1 t1 c1\r\nxyz\r\n",
    "bytes": b"\xff\x00\r\n\r\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_lies_is_a_miss(opened: Opener, lie: str) -> None:
    liar = type("Said", (Liar,), {"says": LIES[lie]})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), liar) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        process: Process = opened(server.server_address[:2], answer_s=0.2)  # type: ignore[arg-type]

        assert ["mug"] * 4 == [process.get("22423", Source()) for _ in range(4)]
        process.forget("22423")
        process.cache.close()
        server.shutdown()


def test_an_answer_that_trickles_is_none(opened: Opener) -> None:
    started = b"STAT pid 1\r\nSTAT time 2\r\nSTAT uptime 1\r\nEND\r\n"
    liar = type("Slow", (Liar,), {"says": started, "pause_s": 0.01})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), liar) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        process = opened(server.server_address[:2], answer_s=0.1)  # type: ignore[arg-type]

        assert ["mug"] * 4 == [process.get("22423", Source()) for _ in range(4)]
        process.cache.close()
        server.shutdown()
