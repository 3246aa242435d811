"""A link whose broker is not there, or hangs up."""

import socket
import threading

from worker.amqp.connection import Link, Session


class Nobody:
    def opened(self, session: Session) -> None:
        raise AssertionError("there is no broker")

    def lost(self, reason: str) -> None:
        raise AssertionError("there was no session")

    def blocked(self, blocked: bool) -> None:
        raise AssertionError("there is no broker")


def test_a_broker_that_hangs_up_is_tried_again_until_the_link_is_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        link = Link(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/", name="test", owner=Nobody())
        link.start()
        for _ in range(3):
            server.accept()[0].close()
        assert link.alive()
        link.stop(10)

    assert not link.alive()


def test_work_without_a_session_is_told_so_at_once_or_at_the_end_of_the_attempt() -> None:
    answered = threading.Event()

    def work(session: Session | None) -> None:
        assert session is None
        answered.set()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        link = Link(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/", name="test", owner=Nobody())
        link.submit(work)
        assert answered.is_set()

        answered.clear()
        link.start()
        connection, _ = server.accept()
        link.submit(work)
        assert answered.wait(10)
        connection.close()
        link.stop(10)


class Blocked:
    """Keeps what it is told of alarms."""

    def __init__(self) -> None:
        self.told: list[bool] = []
        self.ended = threading.Event()

    def opened(self, session: Session) -> None:
        raise AssertionError("there is no broker")

    def lost(self, reason: str) -> None:
        raise AssertionError("there was no session")

    def blocked(self, blocked: bool) -> None:
        self.told.append(blocked)
        if not blocked:
            self.ended.set()


def test_an_alarm_ends_with_its_connection_even_where_there_was_no_session() -> None:
    owner = Blocked()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        link = Link(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/", name="test", owner=owner)
        link._on_blocked(True)
        link.start()
        server.accept()[0].close()
        assert owner.ended.wait(10)
        link.stop(10)

    assert [True, False] == owner.told


def test_a_link_that_waits_for_a_silent_broker_can_be_stopped() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        link = Link(f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/", name="test", owner=Nobody())
        link.start()
        connection, _ = server.accept()
        link.stop(10)
        connection.close()

    assert not link.alive()


def test_of_several_nodes_each_is_tried_in_its_turn() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [server.getsockname()[1] for server in (one, two)]
        link = Link(",".join(f"amqp://u:p@127.0.0.1:{port}/" for port in ports), name="test", owner=Nobody())
        link.start()
        for server in (one, two, one, two):
            server.settimeout(30)
            server.accept()[0].close()
        link.stop(30)

    assert not link.alive()
