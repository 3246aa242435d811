"""CPU of a PlaceOrder in the service, as a share of the same handler written statement by statement in psycopg.

All are processes of their own behind the same chassis (gRPC, token, validation, deadline), on one PostgreSQL. Orders
of three of a thousand products, eight callers at once, SERIALIZABLE on all sides. What counts is the CPU of the
process that serves; every order must be there afterwards, and the pieces must add up.

There are two handlers by hand. One keeps what the service keeps: its waits end with the call's deadline, repeats of a
call and orders of one product queue before the transaction. The other only writes the same rows, and may hang; what
the service does more than that one is not free.
"""

import argparse
import random
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
from bench.measure import in_turns, own_cpu_s, paired, summary
from bench.report import BenchError, Claim
from bench.stand import HOST, Caller, Stand, cores
from lb.xds import collector
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
SIDES: Final = ("ours", "by hand", "bare")


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
    place = ordering.ours(url) if side == SIDES[0] else ordering.ByHand(url, guarded=side == SIDES[1]).place
    server = Server(((ORDERS, Serving(place)),), verifier=verifier, limits=Limits(threads=CALLERS, streams=0))
    print(server.bind(Address(HOST, 0)), flush=True)
    server.start()
    collector.calm()
    sys.stdin.read()
    server.stop(0)


@dataclass
class Side:
    """A service under load, and the port that it is called at."""

    process: "subprocess.Popen[bytes]"
    port: int
    placed: int = 0

    def cost(self, caller: Caller, calls: int) -> float:
        """CPU microseconds of a call. Raises BenchError where one is not answered."""
        self.load(caller, WARM_UP)
        began = own_cpu_s(self.process.pid)
        self.load(caller, calls)
        return (own_cpu_s(self.process.pid) - began) / calls * 1e6

    def load(self, caller: Caller, calls: int) -> None:
        """Place so many orders, eight at once. Raises BenchError where one is not answered."""
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
    parser.add_argument("--calls", type=report.whole, default=400, help="orders a round and side (default 400)")
    parser.add_argument("--rounds", type=report.whole, default=15, help="rounds (default 15)")
    parser.add_argument("--serve", choices=SIDES, help=argparse.SUPPRESS)


def measure(options: argparse.Namespace) -> list[Claim]:
    caller = Caller("orders.write")
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path:
        Path(path).chmod(0o711)
        with ordering.database(Path(path) / "data", PRODUCTS) as url, Stand(Path(path)) as stand:
            sides = {name: start(stand, name, url, caller) for name in SIDES}
            turns = {name: (lambda side=side: side.cost(caller, options.calls)) for name, side in sides.items()}
            found = in_turns(turns, options.rounds)
            ordering.even(url, sum(side.placed for side in sides.values()))
    measured = {"unit": "us", **{name: summary(found[name]) for name in SIDES}}
    ours, by_hand, bare = (found[name] for name in SIDES)
    return [
        Claim(
            "place_order",
            "CPU of the service for a PlaceOrder, and of the same handler statement by statement in psycopg",
            round(paired(ours, by_hand), 3),
            floor=FLOOR,
            goal=GOAL,
            sides=measured,
        ),
        Claim(
            "place_order_bare",
            "the same against a handler that takes no locks and sets no time limits",
            round(paired(ours, bare), 3),
            sides=measured,
        ),
    ]


def start(stand: Stand, name: str, url: str, caller: Caller) -> Side:
    """Start the service as one of SIDES, on the measured core."""
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
