"""What a hit costs: all CPU of GetProduct answered from the cache, against a handler that answers at once.

Both are served by the chassis with all its interceptors, in a process of their own behind a compiled gateway of their
own, and are put under load in turns. One is the catalog's own handler and use case over the real cache and a Memcached;
only its table is one row in memory, which no hit asks. The other returns the same product and does nothing else. The
CPU of Envoy, service and Memcached is added up.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, TypeVar, cast

import grpc

from bench import gateway_hop, load, ours, report
from bench.load import WARM_UP, Target
from bench.measure import cpu_s, in_turns, summary
from bench.report import BenchError, Claim
from bench.stand import HOST, Caller, Stand, cores, free_port, until
from deploy.supervisor.servers.memcached import BINARY
from svc.catalog import rpc
from svc.catalog.model import Price, Product
from svc.catalog.rpc import CatalogHandler
from svc.catalog.usecases import Ports
from svc.chassis import outbox
from svc.chassis.cache.store import Cache
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.pages import PageTokens
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from weft.catalog.v1 import catalog_pb2

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
FLOOR, GOAL = 1.5, 1.3
KEY: Final = b"bench key of 32 bytes for values"
THREADS: Final = 12
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
PRODUCT: Final = Product(
    "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", Price("GBP", 255), "0123456789abcdef", _NOW, _NOW
)
ANSWER: Final = rpc.to_message(PRODUCT)

Kind = Literal["hit", "echo"]
T = TypeVar("T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=report.whole, default=4000, help="requests in each round (default 4000)")
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds of each side (default 5)")


class Row:
    """The table: one product, and how often it was asked for."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline) -> T:
        return work(cast(Transaction, None))

    def get(self, tx: Transaction, product_id: str) -> Product | None:
        self.reads += 1
        return PRODUCT if product_id == PRODUCT.id else None


class Counting:
    """Counts the calls of a handler; an echo where there is none."""

    def __init__(self, handler: CatalogHandler | None) -> None:
        self.calls = 0
        self._handler = handler

    def GetProduct(self, request: catalog_pb2.GetProductRequest, call: CallContext) -> catalog_pb2.Product:  # noqa: N802 - an RPC
        self.calls += 1
        return ANSWER if self._handler is None else self._handler.GetProduct(request, call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.GetProduct


def serve() -> None:
    """Be an instance, as one line of input says; print the port, then calls and reads of the table when asked."""
    report.log_to_stderr()
    said = json.loads(sys.stdin.readline())
    row, cache, handler = Row(), None, None
    if said["cache"]:
        cache = Cache([(HOST, said["cache"])], key=KEY)
        ports = Ports(
            transactions=cast(Any, row),
            products=cast(Any, row),
            cache=cache.entry(CATALOG.methods_by_name["GetProduct"], rpc.CODEC),
            append=outbox.append,
            clock=SystemClock(),
        )
        handler = CatalogHandler(ports, PageTokens(KEY))
    counting = Counting(handler)
    verifier = TokenVerifier(SystemClock())
    verifier.update(said["keys"].encode())
    server = Server(((CATALOG, counting),), verifier=verifier, limits=Limits(threads=THREADS, streams=0))
    print(server.bind(Address(HOST, 0)), flush=True)
    server.start()
    for _ in sys.stdin:
        print(json.dumps([counting.calls, row.reads]), flush=True)
    server.stop(0)
    if cache is not None:
        cache.close()


@dataclass(frozen=True)
class Side:
    """One way through: its processes, and what is asked of the service."""

    kind: Kind
    target: Target
    service: "subprocess.Popen[bytes]"
    others: tuple[int, ...]

    @classmethod
    def start(cls, stand: Stand, kind: Kind, caller: Caller) -> "Side":
        cached = kind == "hit"
        memcached, port = _memcached(stand) if cached else (None, 0)
        command = [sys.executable, "-m", "bench.get_product_hit", "--serve"]
        service = stand.start(command, core=cores()[0], stdout=subprocess.PIPE)
        said = json.dumps({"keys": caller.keys, "cache": port})
        listening = _Port(int(_ask(service, said)))
        target = ours.start(stand, listening, caller, name=kind)
        return cls(kind, target, service, () if memcached is None else (memcached,))

    def told(self) -> tuple[int, int]:
        calls, reads = json.loads(_ask(self.service, ""))
        return calls, reads

    def cpu_s(self) -> float:
        return sum(map(cpu_s, (self.target.pid, self.service.pid, *self.others)))


@dataclass
class _Port:
    port: int


def _ask(process: "subprocess.Popen[bytes]", line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n".encode())
    process.stdin.flush()
    answer = process.stdout.readline().decode()
    if not answer:
        raise BenchError("a service ended")
    return answer


def _memcached(stand: Stand) -> tuple[int, int]:
    port = free_port()
    flags = ["-l", HOST, "-p", str(port), "-U", "0", "-m", "16", "-t", "1", "-u", "nobody"]
    process = stand.start([BINARY, *flags], core=cores()[0])
    cache = Cache([(HOST, port)], key=KEY)
    with closing(cache):
        until(cache.ping, "Memcached was not ready")
    return process.pid, port


def verify(side: Side, caller: Caller) -> None:
    """One real call is answered with the product."""
    with closing(grpc.insecure_channel(f"{HOST}:{side.target.port}")) as channel:
        call: Any = channel.unary_unary(
            gateway_hop.METHOD, catalog_pb2.GetProductRequest.SerializeToString, catalog_pb2.Product.FromString
        )
        metadata = (("authorization", f"Bearer {caller.token()}"),)
        got = call(gateway_hop.REQUEST, timeout=10.0, metadata=metadata, wait_for_ready=True)
        if got != ANSWER:
            raise BenchError(f"{side.kind} answers with something else: {got}")


def cost(side: Side, sent: load.Shape, *, token: str, requests: int) -> float:
    """CPU microseconds of all its processes for each request."""
    load.send(side.target, sent, token, WARM_UP)
    (calls, reads), began = side.told(), side.cpu_s()
    succeeded = load.send(side.target, sent, token, requests)
    spent, (calls_after, reads_after) = side.cpu_s() - began, side.told()
    answered, few = calls_after - calls, requests // 100
    # A call that a busy machine keeps waiting is hedged, as its contract says; a gRPC refusal would be one too few.
    if succeeded != requests or not requests <= answered <= requests + few:
        raise BenchError(f"of {requests} requests {succeeded} got 2xx, {answered} reached {side.kind}")
    # Entries expire, and answers that come late are misses; what is claimed is a hit.
    if reads_after - reads > few:
        raise BenchError(f"{reads_after - reads} of {requests} requests were no hits")
    return spent / requests * 1e6


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        caller = Caller(gateway_hop.SCOPE)
        kinds: Sequence[Kind] = ("hit", "echo")
        sides = {kind: Side.start(stand, kind, caller) for kind in kinds}
        for side in sides.values():
            verify(side, caller)
        sent = gateway_hop.shape(stand.folder)

        def run(side: Side) -> Callable[[], float]:
            return lambda: cost(side, sent, token=caller.token(), requests=options.requests)

        found = in_turns({kind: run(side) for kind, side in sides.items()}, options.rounds)
    return [
        Claim(
            "get_product_hit",
            "all CPU of GetProduct answered from the cache, against an echo behind the same interceptors and gateway",
            report.ratio(median(found["hit"]), median(found["echo"])),
            floor=FLOOR,
            goal=GOAL,
            sides={"unit": "CPU us per request", "ours": summary(found["hit"]), "theirs": summary(found["echo"])},
        )
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(report.main(sys.modules[__name__]))
