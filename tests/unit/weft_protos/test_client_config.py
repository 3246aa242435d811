"""What a client with the contracts' service config repeats, tried with gRPC itself."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from weft_protos import client_config

CREATE_PRODUCT = "/weft.catalog.v1.CatalogService/CreateProduct"
PLACE_ORDER = "/weft.orders.v1.OrderService/PlaceOrder"
WATCH_ORDER = "/weft.orders.v1.OrderService/WatchOrder"
Code = grpc.StatusCode
Call = Callable[[str, Code, int], tuple[str, int]]


class Refusing(grpc.GenericRpcHandler):
    """Refuses the first calls, and says to come back in a moment."""

    def __init__(self) -> None:
        self.code, self.times, self.attempts = Code.OK, 0, 0

    def service(self, handler_call_details: Any) -> Any:
        def answer(_: bytes, context: grpc.ServicerContext) -> bytes:
            self.attempts += 1
            if self.attempts <= self.times:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
                context.abort(self.code, "not now")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def call() -> Iterator[Call]:
    """Calls a method that is refused so often; how it ends, and after how many attempts."""
    refusing = Refusing()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[refusing])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=client_config.options())

    def send(method: str, code: Code, times: int) -> tuple[str, int]:
        refusing.code, refusing.times, refusing.attempts = code, times, 0
        try:
            channel.unary_unary(method)(b"", timeout=30)
        except grpc.RpcError as error:
            return str(error.code().name), refusing.attempts  # type: ignore[attr-defined]
        return "OK", refusing.attempts

    yield send
    channel.close()
    server.stop(0).wait()


@pytest.mark.parametrize("method", [CREATE_PRODUCT, PLACE_ORDER, WATCH_ORDER])
def test_a_throttled_call_waits_and_succeeds_whatever_it_does(call: Call, method: str) -> None:
    assert ("OK", 3) == call(method, Code.RESOURCE_EXHAUSTED, 2)


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.ABORTED])
def test_what_may_have_had_an_effect_is_repeated_where_the_contract_allows_it(call: Call, code: Code) -> None:
    assert ("OK", 2) == call(PLACE_ORDER, code, 1)
    assert (code.name, 1) == call(CREATE_PRODUCT, code, 1)


@pytest.mark.parametrize("code", [Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.INTERNAL])
def test_an_answer_is_not_repeated(call: Call, code: Code) -> None:
    assert (code.name, 1) == call(PLACE_ORDER, code, 1)


def test_a_client_that_is_always_throttled_goes_on_for_ever(call: Call) -> None:
    assert [("OK", 2)] * 150 == [call(PLACE_ORDER, Code.RESOURCE_EXHAUSTED, 1) for _ in range(150)]


def test_attempts_end(call: Call) -> None:
    assert ("RESOURCE_EXHAUSTED", client_config.ATTEMPTS_MAX) == call(PLACE_ORDER, Code.RESOURCE_EXHAUSTED, 99)


def test_a_client_that_is_only_refused_stops_repeating(call: Call) -> None:
    attempts = [call(PLACE_ORDER, Code.RESOURCE_EXHAUSTED, 99)[1] for _ in range(40)]

    assert client_config.ATTEMPTS_MAX == attempts[0]
    assert 1 == attempts[-1]
