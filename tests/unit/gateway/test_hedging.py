"""Hedged calls and instances that hang, at a real Envoy: who is answered, and how many attempts that may cost."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gateway.envoy.scripts import retry_throttle
from gateway.policy import PolicySet, find
from tests.waiting import eventually

from .one_service import Backend, Gateway, code
from .one_service import backend as backend
from .one_service import gateway as gateway
from .stoppable import answering

HEDGED, UNHEDGED = "GetOrder", "GetSales"
AT_ONCE = 20


@pytest.fixture
def slow() -> Iterator[Backend]:
    """A backend that keeps its calls until the test ends."""
    found, ended = Backend(threads=400), threading.Event()
    found.before = lambda _method: ended.wait()
    yield found
    ended.set()
    found.stop()


def codes(call: Any, calls: int) -> list[str]:
    """How many calls at once end."""
    return [each.code().name for each in [call.future(b"", timeout=60) for _ in range(calls)]]


def test_a_call_that_hangs_at_one_instance_is_answered_by_another(
    gateway: Gateway, slow: Backend, backend: Backend
) -> None:
    call = gateway(slow.port, backend.port, method=HEDGED)

    assert ["OK"] * AT_ONCE == codes(call, AT_ONCE)

    assert slow.attempts > 0


def test_an_instance_whose_calls_hang_is_left_alone(gateway: Gateway, slow: Backend, backend: Backend) -> None:
    call = gateway(slow.port, backend.port, method=HEDGED)
    codes(call, AT_ONCE)

    def spared() -> bool:
        before = slow.attempts
        assert ["OK"] * AT_ONCE == codes(call, AT_ONCE)
        return before == slow.attempts

    eventually(spared)


def test_a_method_that_does_not_ask_for_it_is_never_sent_twice(
    gateway: Gateway, slow: Backend, backend: Backend
) -> None:
    call = gateway(slow.port, backend.port, method=UNHEDGED)

    ended = codes(call, 4)

    assert {"OK", "DEADLINE_EXCEEDED"} >= set(ended)
    assert slow.attempts == ended.count("DEADLINE_EXCEEDED") > 0
    assert backend.attempts == ended.count("OK")


def test_where_all_instances_are_slow_hardly_any_call_is_sent_twice(gateway: Gateway, policies: PolicySet) -> None:
    delay = find(policies, HEDGED).policy.hedging_delay
    assert delay is not None
    backends = [Backend(threads=200) for _ in range(2)]
    for each in backends:
        each.before = lambda _method: threading.Event().wait(delay.total_seconds() * 2.5)
    call, calls, at_once = gateway(*(each.port for each in backends), method=HEDGED), 300, 30
    with ThreadPoolExecutor(at_once) as pool:
        # On a machine this busy a call may also miss its deadline.
        assert {"OK", "DEADLINE_EXCEEDED"} >= set(pool.map(lambda _: code(call), range(calls)))
    more = sum(each.attempts for each in backends) - calls
    for each in backends:
        each.stop()

    # Half the bucket, what was under way when it was found to be empty, and one for ten calls.
    assert 0 < more <= retry_throttle.HEDGES_MAX / retry_throttle.COST / 2 + 2 * at_once + calls / 10


def test_hedges_stay_within_the_retry_budget(gateway: Gateway, slow: Backend) -> None:
    budget = {"budget_percent": {"value": 0.0}, "min_retry_concurrency": 2}
    call = gateway(slow.port, method=HEDGED, retry_budget=budget)

    assert ["DEADLINE_EXCEEDED"] * AT_ONCE == codes(call, AT_ONCE)

    assert AT_ONCE < slow.attempts <= AT_ONCE + 4


def test_no_answer_says_how_many_attempts_it_took(gateway: Gateway, backend: Backend) -> None:
    _, ended = gateway(backend.port, method=HEDGED).method(HEDGED).with_call(b"", timeout=30)

    told = {key for key, _ in (*ended.initial_metadata(), *ended.trailing_metadata())}
    assert [] == [key for key in told if key.startswith("x-gw-")]


@pytest.mark.parametrize("method", [HEDGED, "PlaceOrder"])
def test_no_call_fails_while_an_instance_is_stopped(gateway: Gateway, method: str) -> None:
    ended: list[str] = []
    stop = threading.Event()

    def steadily(call: Any) -> None:
        while not stop.wait(0.02):
            ended.append(code(call))

    with answering(20) as victim, answering(20) as other:
        call = gateway(victim.port, other.port, method=method)
        callers = [threading.Thread(target=steadily, args=(call,)) for _ in range(6)]
        for caller in callers:
            caller.start()
        eventually(lambda: len(ended) > 50)
        os.kill(victim.pid, signal.SIGSTOP)
        began = len(ended)
        eventually(lambda: len(ended) > began + 200)
        os.kill(victim.pid, signal.SIGCONT)
        back = len(ended)
        eventually(lambda: len(ended) > back + 50)
        stop.set()
        for caller in callers:
            caller.join(30)

    assert {"OK"} == set(ended)
