"""Who repeats a call to a peer, how often, and when nobody does any more: at a server that counts."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from svc.chassis import errors, throttle
from svc.chassis.client import Peer
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.criticality import HEADER, Courier, Criticality
from svc.chassis.throttle import TOKEN_RATIO, TOKENS_MAX, Throttle
from weft.catalog.v1 import catalog_pb2

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
REQUEST = catalog_pb2.BatchGetProductsRequest(names=["products/a"])
#: `retry: {max_attempts: 3}` of BatchGetProducts.
ATTEMPTS = 3
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Counting:
    """A peer that fails as the test says, and keeps the metadata of every attempt."""

    def __init__(self) -> None:
        self.attempts: list[dict[str, Any]] = []
        self.fails: Callable[[int], grpc.StatusCode | None] = lambda _attempt: None
        self.trailers: tuple[tuple[str, str], ...] = ()

    def answer(self, _request: bytes, context: grpc.ServicerContext) -> bytes:
        self.attempts.append(dict(context.invocation_metadata()))
        code = self.fails(len(self.attempts))
        if code is not None:
            context.set_trailing_metadata(self.trailers)
            context.abort(code, "no")
        return b""


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
def peer(counting: Counting) -> Iterator[Peer]:
    server = grpc.server(ThreadPoolExecutor(4))
    handler: Any = grpc.unary_unary_rpc_method_handler(counting.answer)
    methods = {"BatchGetProducts": handler, "CreateProduct": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(CATALOG.full_name, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Peer(channel, CATALOG, courier=Courier(b"k" * 32))
    server.stop(0).wait()


def context(*, seconds: float = 10.0, is_active: bool = True, level: Criticality = Criticality.DEFAULT) -> CallContext:
    principal = Principal("alice", frozenset({"orders.write"}), "session-1", None, "a.b.c")
    return CallContext("/x", principal, Deadline.after(seconds), b"", lambda: is_active, level)


def test_a_call_that_failed_is_repeated_with_the_same_caller(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda attempt: UNAVAILABLE if attempt < ATTEMPTS else None

    peer.call("BatchGetProducts", REQUEST, call=context())

    assert ["Bearer a.b.c"] * ATTEMPTS == [one["authorization"] for one in counting.attempts]


def test_after_the_contracts_attempts_the_peer_counts_as_away(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda _attempt: UNAVAILABLE

    with pytest.raises(errors.Aborted) as caught:
        peer.call("BatchGetProducts", REQUEST, call=context())

    assert ("PEER_UNAVAILABLE", ATTEMPTS) == (caught.value.reason, len(counting.attempts))


def test_what_the_contract_does_not_retry_is_sent_once(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda _attempt: UNAVAILABLE

    with pytest.raises(errors.Aborted):
        peer.call("CreateProduct", catalog_pb2.CreateProductRequest(), call=context())

    assert 1 == len(counting.attempts)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code not in {grpc.StatusCode.OK, UNAVAILABLE}])
def test_an_answer_is_never_repeated(peer: Peer, counting: Counting, code: grpc.StatusCode) -> None:
    counting.fails = lambda _attempt: code

    with pytest.raises(errors.AppError):
        peer.call("BatchGetProducts", REQUEST, call=context())

    assert 1 == len(counting.attempts)


@pytest.mark.parametrize("said", ["-1", "never", "60000"])
def test_a_peer_that_wants_no_retry_soon_gets_none(peer: Peer, counting: Counting, said: str) -> None:
    counting.fails, counting.trailers = (lambda _attempt: UNAVAILABLE), (("grpc-retry-pushback-ms", said),)

    with pytest.raises(errors.Aborted):
        peer.call("BatchGetProducts", REQUEST, call=context())

    assert 1 == len(counting.attempts)


def test_a_peer_that_says_when_is_asked_again_then(peer: Peer, counting: Counting) -> None:
    counting.fails, counting.trailers = (
        (lambda attempt: UNAVAILABLE if attempt == 1 else None),
        (("grpc-retry-pushback-ms", "1"),),
    )

    peer.call("BatchGetProducts", REQUEST, call=context())

    assert 2 == len(counting.attempts)


def test_for_a_caller_that_has_gone_nothing_is_repeated(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda _attempt: UNAVAILABLE

    with pytest.raises(errors.Aborted):
        peer.call("BatchGetProducts", REQUEST, call=context(is_active=False))

    assert 1 == len(counting.attempts)


def test_in_a_total_outage_retries_stop(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda _attempt: UNAVAILABLE
    calls = 400

    for _ in range(calls):
        with pytest.raises(errors.Aborted):
            peer.call("BatchGetProducts", REQUEST, call=context())

    amplification = len(counting.attempts) / calls
    assert 1.0 < amplification <= 1.1


def test_after_an_outage_answers_buy_retries_back(peer: Peer, counting: Counting) -> None:
    counting.fails = lambda _attempt: UNAVAILABLE
    for _ in range(50):
        with pytest.raises(errors.Aborted):
            peer.call("BatchGetProducts", REQUEST, call=context())
    counting.fails = lambda _attempt: None
    for _ in range(int(TOKENS_MAX / 2 / TOKEN_RATIO) + 20):
        peer.call("BatchGetProducts", REQUEST, call=context())
    counting.attempts.clear()
    counting.fails = lambda attempt: UNAVAILABLE if attempt == 1 else None

    peer.call("BatchGetProducts", REQUEST, call=context())

    assert 2 == len(counting.attempts)


def test_all_calls_that_were_at_a_killed_instance_may_be_repeated() -> None:
    # Every thread of an instance has one call there at most, and there are twelve.
    tokens = Throttle()

    assert [True] * 12 == [tokens.failed() for _ in range(12)]


def test_pauses_grow_to_a_bound() -> None:
    for attempt in range(1, 12):
        assert throttle.PAUSE_FIRST_S / 2 <= throttle.pause_s(attempt) <= throttle.PAUSE_MAX_S * 1.5


def test_what_is_asked_for_a_critical_call_is_critical(peer: Peer, counting: Counting) -> None:
    peer.call("BatchGetProducts", REQUEST, call=context(level=Criticality.CRITICAL))
    peer.call("BatchGetProducts", REQUEST, call=context(level=Criticality.SHEDDABLE))
    peer.call("BatchGetProducts", REQUEST, call=context())

    path = f"/{CATALOG.full_name}/BatchGetProducts"
    read = [
        Courier(b"k" * 32).read(list(one.items()), method=path, own=Criticality.DEFAULT) for one in counting.attempts
    ]
    assert [Criticality.CRITICAL, Criticality.SHEDDABLE, Criticality.DEFAULT] == read
    assert HEADER not in counting.attempts[2]
