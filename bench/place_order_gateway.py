"""What the gateway adds to a PlaceOrder: all CPU of one through it, as a multiple of one sent straight at the instance.

One instance of the orders service over one PostgreSQL, the compiled gateway before it, and the same eight callers that
send to the one port or to the other in turns. What counts is the CPU of all that serves: Envoy, service and database;
without the database stands beside it. Every order must be there afterwards, and the pieces must add up.
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from bench import ordering, ours, place_order, report
from bench.measure import cpu_s, in_turns, own_cpu_s, paired, summary
from bench.place_order import PRODUCTS, WARM_UP
from bench.report import Claim
from bench.stand import HOST, Caller, Stand, until

FLOOR, GOAL = 1.5, 1.3
SIDES: Final = ("gateway", "direct")


@dataclass(frozen=True)
class Cost:
    """CPU microseconds of one call."""

    serving: float
    database: float

    @property
    def all(self) -> float:
        """What everything used."""
        return self.serving + self.database


@dataclass
class Way:
    """One way to the service: where calls go, and the processes that serve them."""

    side: place_order.Side
    serving: tuple[int, ...]
    database: int

    def cost(self, caller: Caller, calls: int) -> Cost:
        """What a call costs. Raises BenchError where one is not answered."""
        self.side.load(caller, WARM_UP)
        serving, database = self._used()
        self.side.load(caller, calls)
        serving_after, database_after = self._used()
        return Cost((serving_after - serving) / calls * 1e6, (database_after - database) / calls * 1e6)

    def _used(self) -> tuple[float, float]:
        return sum(map(own_cpu_s, self.serving)), cpu_s(self.database)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=report.whole, default=400, help="orders a round and way (default 400)")
    parser.add_argument("--rounds", type=report.whole, default=15, help="rounds (default 15)")


def measure(options: argparse.Namespace) -> list[Claim]:
    caller = Caller("orders.write")
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path:
        folder = Path(path)
        folder.chmod(0o711)
        with ordering.database(folder / "data", PRODUCTS) as url, Stand(folder) as stand:
            postgres = _postmaster(folder)
            service = place_order.start(stand, "ours", url, caller)
            envoy = ours.start(stand, service, caller)
            _wait(envoy.port, caller)
            ways = {
                "gateway": Way(
                    place_order.Side(service.process, envoy.port), (envoy.pid, service.process.pid), postgres
                ),
                "direct": Way(service, (service.process.pid,), postgres),
            }
            turns = {name: (lambda way=way: way.cost(caller, options.calls)) for name, way in ways.items()}
            found = in_turns(turns, options.rounds)
            ordering.even(url, sum(way.side.placed for way in ways.values()))
    through, direct = (found[name] for name in SIDES)
    whole = {name: summary([cost.all for cost in found[name]]) for name in SIDES}
    serving = {name: summary([cost.serving for cost in found[name]]) for name in SIDES}
    alone = paired([cost.serving for cost in through], [cost.serving for cost in direct])
    return [
        Claim(
            "place_order_gateway",
            "all CPU of a PlaceOrder through the gateway (Envoy, service, database), and straight at the instance",
            round(paired([cost.all for cost in through], [cost.all for cost in direct]), 3),
            floor=FLOOR,
            goal=GOAL,
            sides={"unit": "us", **whole, "without the database": {"ratio": round(alone, 3), **serving}},
        )
    ]


def _postmaster(folder: Path) -> int:
    """The pid of the database's first process, of which all others are children."""
    [written] = folder.rglob("postmaster.pid")
    return int(written.read_text().split()[0])


def _wait(port: int, caller: Caller) -> None:
    """Until the gateway reaches the service: it answers a basket without anything in it with the service's refusal."""
    metadata = (("authorization", f"Bearer {caller.token()}"),)
    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        place: Any = channel.unary_unary(ordering.METHOD)

        def answered() -> bool:
            try:
                place(b"", timeout=5.0, metadata=metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                return error.code() is grpc.StatusCode.INVALID_ARGUMENT
            return True

        until(answered, "the gateway did not reach the service")


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
