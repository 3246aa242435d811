"""What becomes of callers at the gateway when a service whose handlers take the processor gets ten times its load.

The compiled gateway before one instance of the chassis that has a core to itself; load and backend are processes of
their own. Here a refusal costs the instance a fair part of what a call costs, and the gateway has to refuse for it.
"""

import argparse
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE
from types import SimpleNamespace
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from bench import ours, overload, report
from bench.overload import Load, Sort
from bench.report import BenchError, Claim
from bench.stand import HOST, Caller, Stand, cores
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.criticality import Criticality
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from weft.orders.v1 import orders_pb2

ORDERS: Final = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]
THREADS: Final = 4
#: Of the processor, for each call; a twentieth more goes into receiving and answering it, or into refusing it.
SERVICE_S: Final = 0.01
#: A gateway takes a hundred calls at once from one of them.
CONNECTIONS: Final = 16
_ID: Final = "00000000-0000-4000-8000-000000000001"
_PROBES: Final = 100


class Busy:
    """Every method of the service computes."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def handle(_request: Message, _call: CallContext) -> Message:
            end = time.thread_time() + SERVICE_S
            while time.thread_time() < end:
                pass
            return orders_pb2.ListOrdersResponse() if name == "ListOrders" else orders_pb2.Order()

        return handle


def serve(keys: Path) -> None:
    """Be the instance; the port is the first line of the output."""
    verifier = TokenVerifier(SystemClock())
    server = Server(((ORDERS, Busy()),), verifier=verifier, limits=Limits(threads=THREADS, streams=0))
    print(server.bind(Address(HOST, 0)), flush=True)
    verifier.update(keys.read_bytes())
    server.start()
    sys.stdin.read()
    server.stop(0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a run can be told."""
    parser.add_argument("--seconds", type=float, default=10.0, help="length of full load and storm")


def measure(options: argparse.Namespace) -> list[Claim]:
    """A gateway, an instance behind it, and what becomes of their callers."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        caller = Caller("orders.read", "orders.write")
        keys = Path(path) / "keys.json"
        keys.write_text(caller.keys)
        command = [sys.executable, "-m", "bench.gateway_overload", "--serve", str(keys)]
        instance = stand.start(command, core=cores()[0], stdout=PIPE)
        assert instance.stdout is not None
        backend: Any = SimpleNamespace(port=int(instance.stdout.readline()))
        target = ours.start(stand, backend, caller, core=cores()[1])
        sorts = _sorts(caller.token())
        capacity = _capacity(target.port, sorts[Criticality.DEFAULT])
        load = Load(target.port, sorts, capacity=capacity, connections=CONNECTIONS)
        return overload.claims(load, options.seconds, name="gateway_overload", capacity=round(capacity, 1))


def _sorts(token: str) -> dict[Criticality, Sort]:
    item = orders_pb2.ItemQuantity(product_id="tea", quantity=1)
    requests: dict[Criticality, tuple[str, Message]] = {
        Criticality.CRITICAL: ("PlaceOrder", orders_pb2.PlaceOrderRequest(items=[item], request_id=_ID)),
        Criticality.DEFAULT: ("GetOrder", orders_pb2.GetOrderRequest(name=f"orders/{_ID}")),
        Criticality.SHEDDABLE: ("ListOrders", orders_pb2.ListOrdersRequest()),
    }
    metadata = (("authorization", f"Bearer {token}"),)
    return {
        level: Sort(f"/{ORDERS.full_name}/{method}", request.SerializeToString(), metadata)
        for level, (method, request) in requests.items()
    }


def _capacity(port: int, sort: Sort) -> float:
    """Calls a second of as many callers as there are threads. Raises BenchError where one of them fails."""
    with grpc.insecure_channel(f"{HOST}:{port}") as channel, ThreadPoolExecutor(THREADS) as pool:
        call: Any = channel.unary_unary(sort.method)
        try:
            call(sort.request, timeout=30.0, metadata=sort.metadata, wait_for_ready=True)
            began = time.monotonic()
            list(pool.map(lambda _: call(sort.request, timeout=30.0, metadata=sort.metadata), range(_PROBES)))
        except grpc.RpcError as error:
            raise BenchError(f"a call without load failed: {error}") from error
        return _PROBES / (time.monotonic() - began)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(Path(sys.argv[2]))
    else:
        sys.exit(report.main(sys.modules[__name__]))
