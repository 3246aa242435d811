"""CPU of a PlaceOrder in the service, as a share of the same handler written statement by statement in psycopg.

Both are processes of their own behind the same chassis (gRPC, token, validation, deadline), on one PostgreSQL. Orders
of three of a thousand products, eight callers at once, SERIALIZABLE on both sides. What counts is the CPU of the
process that serves; every order must be there afterwards, and the pieces must add up.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from bench import ordering, report
from bench.measure import cpu_s, in_turns, summary
from bench.report import BenchError, Claim, ratio
from bench.stand import HOST, Caller, Stand, cores
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from svc.orders.model import Line
from weft.orders.v1 import orders_pb2

ORDERS: Final = orders_pb2.DESCRIPTOR.services_by_name["OrderService"]
PRODUCTS, ITEMS, CALLERS = 1000, 3, 8
WARM_UP: Final = 100
FLOOR, GOAL = 0.6, 0.5
SIDES: Final = ("ours", "by hand")


class Serving:
    """OrderService with one method that does something."""

    def __init__(self, place: ordering.Handler) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def handle(request: Any, call: CallContext) -> Message:
            lines = [Line(item.product_id, item.quantity) for item in request.items]
            return orders_pb2.Order.FromString(self._place(lines, request.request_id, call))

        return handle


def serve(side: str) -> None:
    """Be the service: URL and keys are the first lines of the input, the port is the first line of the output."""
    url = sys.stdin.readline().strip()
    verifier = TokenVerifier(SystemClock())
    verifier.update(sys.stdin.readline().encode())
    place = ordering.ours(url) if side == SIDES[0] else ordering.ByHand(url).place
    server = Server(((ORDERS, Serving(place)),), verifier=verifier, limits=Limits(threads=CALLERS, streams=0))
    print(server.bind(Address(HOST, 0)), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


@dataclass
class Side:
    """A service under load."""

    process: "subprocess.Popen[bytes]"
    port: int
    placed: int = 0

    def cost(self, caller: Caller, calls: int) -> float:
        """CPU microseconds of a call. Raises BenchError where one is not answered."""
        self._load(caller, WARM_UP)
        began = cpu_s(self.process.pid)
        self._load(caller, calls)
        return (cpu_s(self.process.pid) - began) / calls * 1e6

    def _load(self, caller: Caller, calls: int) -> None:
        token, chance = caller.token(), random.Random(calls)
        baskets = [ordering.basket(chance, PRODUCTS, ITEMS) for _ in range(calls)]
        with grpc.insecure_channel(f"{HOST}:{self.port}") as channel, ThreadPoolExecutor(CALLERS) as threads:
            place: Any = channel.unary_unary(ordering.METHOD)

            def send(lines: list[Line]) -> None:
                request = orders_pb2.PlaceOrderRequest(
                    request_id=str(uuid.uuid4()),
                    items=[
                        orders_pb2.ItemQuantity(product_id=each.product_id, quantity=each.quantity) for each in lines
                    ],
                )
                place(request.SerializeToString(), timeout=10, metadata=(("authorization", f"Bearer {token}"),))

            try:
                list(threads.map(send, baskets))
            except grpc.RpcError as error:
                raise BenchError(f"an order was refused: {error}") from error
        self.placed += calls


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=report.whole, default=1500, help="orders a round and side (default 1500)")
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds (default 5)")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> list[Claim]:
    caller = Caller("orders.write")
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path:
        Path(path).chmod(0o711)
        with ordering.database(Path(path) / "data", PRODUCTS) as url, Stand(Path(path)) as stand:
            sides = {name: _start(stand, name, url, caller) for name in SIDES}
            turns = {name: (lambda side=side: side.cost(caller, options.calls)) for name, side in sides.items()}
            found = in_turns(turns, options.rounds)
            ordering.even(url, sum(side.placed for side in sides.values()))
    ours, theirs = (statistics.median(found[name]) for name in SIDES)
    return [
        Claim(
            "place_order",
            "CPU of the service for a PlaceOrder, and of the same handler statement by statement in psycopg",
            ratio(ours, theirs),
            floor=FLOOR,
            goal=GOAL,
            sides={"unit": "us", **{name: summary(found[name]) for name in SIDES}},
        )
    ]


def _start(stand: Stand, name: str, url: str, caller: Caller) -> Side:
    command = [sys.executable, "-m", "bench.place_order", "--serve", name]
    process = stand.start(command, core=cores()[0], stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{url}\n{caller.keys}\n".encode())
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise BenchError(f"the service {name} did not start")
    return Side(process, int(line))


if __name__ == "__main__":
    if "--serve" in sys.argv:
        report.log_to_stderr()
        serve(sys.argv[sys.argv.index("--serve") + 1])
    else:
        sys.exit(report.main(sys.modules[__name__]))
