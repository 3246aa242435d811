"""What whoever cannot show a certificate is told over HTTP: metrics, ready, alive."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from lb import exposition
from lb.exposition import ALIVE, READY
from tests.waiting import free_port

Answers = dict[str, Callable[[], bool]]


@pytest.fixture
def answers() -> Answers:
    return {}


@pytest.fixture
def address(answers: Answers) -> Iterator[str]:
    port = free_port()
    server, thread = exposition.start(port, "127.0.0.1", answers)
    yield f"http://127.0.0.1:{port}"
    server.shutdown()
    server.server_close()
    thread.join()


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_who_has_not_said_that_it_is_ready_is_not(address: str, answers: Answers) -> None:
    assert [503, 503] == [status(address + path) for path in (READY, ALIVE)]

    answers |= {READY: lambda: False, ALIVE: lambda: True}
    assert [503, 200] == [status(address + path) for path in (READY, ALIVE)]


def test_metrics_are_shown_beside_it(address: str) -> None:
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        assert b"process_start_time_seconds" in answer.read()
