"""The service behind every gateway of the benches: answers at once, with the same bytes, and counts what it answered.

Run by bench/stand.py as a process of its own; prints its port when it listens, and ends with its standard input.
"""

import sys
import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any, Final

import grpc

from weft.catalog.v1.catalog_pb2 import Product
from weft.orders.v1.orders_pb2 import Order

COUNT: Final = "/weft.bench.Backend/Count"
_COLLECTOR: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_THREADS: Final = 4
_ID: Final = "00000000-0000-4000-8000-000000000000"


def product() -> Product:
    """An answer of the usual size."""
    answer = Product(name="products/85123A", display_name="WHITE HANGING HEART T-LIGHT HOLDER", etag="W/1")
    answer.price.currency_code, answer.price.units, answer.price.nanos = "GBP", 2, 550_000_000
    answer.create_time.seconds = answer.update_time.seconds = 1_700_000_000
    return answer


def order() -> Order:
    """An answer to a call that writes."""
    answer = Order(name=f"orders/{_ID}", user=f"users/{_ID}", state=Order.STATE_PLACED)
    answer.total.currency_code, answer.total.units, answer.total.nanos = "GBP", 5, 100_000_000
    answer.create_time.seconds = answer.update_time.seconds = 1_700_000_000
    return answer


def main() -> None:
    """Serve until standard input ends."""
    answered = 0
    lock = threading.Lock()

    def constant(content: bytes) -> Callable[[bytes, Any], bytes]:
        def answer(_: bytes, __: Any) -> bytes:
            nonlocal answered
            with lock:
                answered += 1
            return content

        return answer

    def handler(service: str, **methods: Callable[[bytes, Any], bytes]) -> Any:
        handlers: Any = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
        return grpc.method_handlers_generic_handler(service, handlers)

    server = grpc.server(futures.ThreadPoolExecutor(_THREADS), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(
        (
            handler("weft.catalog.v1.CatalogService", GetProduct=constant(product().SerializeToString())),
            handler("weft.orders.v1.OrderService", PlaceOrder=constant(order().SerializeToString())),
            handler("weft.bench.Backend", Count=lambda _, __: str(answered).encode()),
            # Spans have to go somewhere; taking them is not what is measured.
            handler(_COLLECTOR, Export=lambda _, __: b""),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(None)


if __name__ == "__main__":
    main()
