"""What an instance does with ten times the load it can bear.

A real server of the chassis in a process of its own, with a handler that takes its time as a database does; the load
comes from this process at the moments it is due, whether or not earlier calls were answered. Calls of three classes,
each with a deadline. Goodput is what is answered within it. One instance, straight, without gateway and tokens: what is
measured is who is served, not how fast.
"""

import argparse
import itertools
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message

from bench import report
from bench.report import Claim
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.criticality import HEADER, Criticality
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from weft.identity.v1 import identity_pb2

IDENTITY = identity_pb2.DESCRIPTOR.services_by_name["IdentityService"]
#: Public and critical, so that no token is needed and the header can lower it to each class.
METHOD = "/weft.identity.v1.IdentityService/CreateSession"
REQUEST = identity_pb2.CreateSessionRequest(email="ann@example.com", password="correct horse").SerializeToString()
THREADS, SERVICE_S, DEADLINE_S = 4, 0.05, 2.0
CAPACITY = THREADS / SERVICE_S
MIX = {Criticality.CRITICAL: 0.06, Criticality.DEFAULT: 0.44, Criticality.SHEDDABLE: 0.5}
CALM, FULL, STORM = 0.7, 1.2, 10.0
RECOVERY_S = 8
#: Of all calls in a second of ordinary load; bursts still shed a few sheddable ones.
KEPT = 0.95


class Slow:
    """Every method of the service takes its time."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def handle(_request: Message, _call: CallContext) -> Message:
            threading.Event().wait(SERVICE_S)
            return identity_pb2.Session()

        return handle


def serve() -> None:
    """Be the instance; the port is the first line of the output."""
    limits = Limits(threads=THREADS, streams=0)
    server = Server(((IDENTITY, Slow()),), verifier=TokenVerifier(SystemClock()), limits=limits)
    print(server.bind(Address("127.0.0.1", 0)), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


@dataclass
class Phase:
    """Calls that were sent at one rate."""

    seconds: float
    offered: Counter[Criticality] = field(default_factory=Counter)
    good: Counter[Criticality] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def goodput(self) -> float:
        return sum(self.good.values()) / self.seconds

    def kept(self, *levels: Criticality) -> float:
        return sum(self.good[level] for level in levels) / max(1, sum(self.offered[level] for level in levels))


@dataclass(frozen=True, slots=True)
class Sort:
    """A call of one class, as it is sent."""

    method: str
    request: bytes
    metadata: tuple[tuple[str, str], ...]


class Load:
    """An open loop: calls leave when they are due."""

    def __init__(self, port: int, sorts: Mapping[Criticality, Sort], *, capacity: float, connections: int = 1) -> None:
        """`capacity`: calls a second that the instance can answer. Calls take the connections in turn."""
        options = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
        self._channels = [grpc.insecure_channel(f"127.0.0.1:{port}", options=options) for _ in range(connections)]
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(timeout=30)
        self._sorts = sorts
        self._send: dict[Criticality, Iterator[Any]] = {
            level: itertools.cycle([channel.unary_unary(sort.method) for channel in self._channels])
            for level, sort in sorts.items()
        }
        self._capacity = capacity
        self._chance = random.Random(1)

    def run(self, share: float, seconds: float) -> Phase:
        """Send at that share of the capacity, and wait for every call's end."""
        phase, calls = Phase(seconds), []
        due, end = time.monotonic(), time.monotonic() + seconds
        pause = threading.Event()
        while due < end:
            pause.wait(max(0.0, due - time.monotonic()))
            calls.append(self._one(phase))
            due += self._chance.expovariate(share * self._capacity)
        for call in calls:
            call.exception()
        return phase

    def _one(self, phase: Phase) -> Any:
        level = self._chance.choices(list(MIX), list(MIX.values()))[0]
        phase.offered[level] += 1
        sort = self._sorts[level]
        call = next(self._send[level]).future(sort.request, timeout=DEADLINE_S, metadata=sort.metadata)

        def ended(done: Any) -> None:
            with phase.lock:
                phase.ends[done.code().name] += 1
                phase.good[level] += done.code() is grpc.StatusCode.OK

        call.add_done_callback(ended)
        return call


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a run can be told."""
    parser.add_argument("--seconds", type=float, default=10.0, help="length of full load and storm")


def measure(options: argparse.Namespace) -> list[Claim]:
    """An instance of its own, and what becomes of its callers."""
    command = [sys.executable, "-m", "bench.overload", "--serve"]
    instance = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=report.ROOT)
    assert instance.stdin is not None
    assert instance.stdout is not None
    try:
        return _measure(int(instance.stdout.readline()), options.seconds)
    finally:
        instance.stdin.close()
        instance.wait(30)


def _measure(port: int, seconds: float) -> list[Claim]:
    sorts = {level: Sort(METHOD, REQUEST, ((HEADER, level.word),)) for level in Criticality}
    return claims(Load(port, sorts, capacity=CAPACITY), seconds, name="overload", capacity=CAPACITY)


def claims(load: Load, seconds: float, *, name: str, capacity: float) -> list[Claim]:
    """Full load, a storm, and the seconds after it."""
    everybody = tuple(Criticality)
    load.run(CALM, 2.0)
    peak, storm = load.run(FULL, seconds), load.run(STORM, seconds)
    after = [load.run(CALM, 1.0) for _ in range(RECOVERY_S)]
    bad = [number for number, one in enumerate(after, 1) if one.kept(*everybody) < KEPT]
    kept = {level.word: round(storm.kept(level), 4) for level in reversed(Criticality)}
    sides = {
        "capacity_per_s": capacity,
        "offered_per_s": round(sum(storm.offered.values()) / seconds, 1),
        "goodput_peak_per_s": round(peak.goodput, 1),
        "goodput_storm_per_s": round(storm.goodput, 1),
        "kept_in_storm": kept,
        "ends_in_storm": dict(storm.ends),
    }
    lost, wasted = 1 - storm.kept(Criticality.CRITICAL), max(0.0, 1 - storm.goodput / peak.goodput)
    return [
        Claim(f"{name}_critical", "critical calls lost at 10 times the load", lost, floor=0.01, sides=sides),
        Claim(f"{name}_goodput", "goodput lost at 10 times the load", wasted, floor=0.2, sides=sides),
        Claim(f"{name}_recovery", "until all is well again", float(bad[-1] if bad else 0), "s", 5.0, sides=sides),
    ]


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        sys.exit(report.main(sys.modules[__name__]))
