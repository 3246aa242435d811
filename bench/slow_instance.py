"""What one slow instance of four does to all callers of a service: p99 with it as a multiple of p99 without.

Four instances of the catalog, real servers of the chassis in processes of their own, whose handler waits 20 ms and
computes 1 ms; calls are sent when they are due. One instance gets 5 % of a core: by a cgroup's quota where there are
cgroups of version 1 to be had, and, harder, stopped 95 of every 100 ms. Calls go straight from a gRPC client on `xds:///`,
and through the compiled gateway; the control plane's server and the bundle are the real ones. Beside it the same with
round robin in the clusters. The first five seconds are not counted. The figure is that of the worse way to be slow, of
medians over rounds.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from bench import ours, report
from bench.measure import in_turns
from bench.report import BenchError, Claim, ratio
from bench.stand import HOST, Caller, Stand, every_core, free_port
from gateway import compiler
from gateway.envoy import names
from gateway.envoy.edge import Edge
from lb import bootstrap, channel
from lb.__main__ import read_bundle
from lb.endpoint import Endpoint, ServiceName
from lb.xds import bundle
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.server import Limits, Server
from svc.chassis.tokens import TokenVerifier
from weft.catalog.v1 import catalog_pb2
from weft_protos.xds import envoy

CATALOG = catalog_pb2.DESCRIPTOR.services_by_name["CatalogService"]
METHOD: Final = "/weft.catalog.v1.CatalogService/GetProduct"
REQUEST: Final = catalog_pb2.GetProductRequest(name="products/a").SerializeToString()
INSTANCES: Final = 4
THREADS: Final = 12
WAITS_S, COMPUTES_S = 0.02, 0.001
DEADLINE_S: Final = 5.0
#: Until the slow one is known for what it is.
SETTLES_S: Final = 5.0
SHARE: Final = 0.05
PERIOD_S: Final = 0.1
GROUPS: Final = Path("/sys/fs/cgroup/cpu")
FLOOR, GOAL = 2.0, 1.5
SIDES: Final = ("ours", "round robin")


class Waiting:
    """Answers every method after a while."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def handle(_request: Message, _call: CallContext) -> Message:
            threading.Event().wait(WAITS_S)
            until = time.thread_time() + COMPUTES_S
            while time.thread_time() < until:
                continue
            return catalog_pb2.Product(name="products/a", display_name="A")

        return handle


def serve() -> None:
    """Be an instance: the keys are the first line of the input, the port is the first line of the output."""
    verifier = TokenVerifier(SystemClock())
    verifier.update(sys.stdin.readline().encode())
    server = Server(((CATALOG, Waiting()),), verifier=verifier, limits=Limits(threads=THREADS, streams=0))
    print(server.bind(Address(HOST, 0)), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(0)


def load() -> None:
    """Be the client, as one line of input says; print how long each call took from five seconds on."""
    said = json.loads(sys.stdin.readline())
    opened = grpc.insecure_channel(said["target"], options=channel.OPTIONS)
    grpc.channel_ready_future(opened).result(timeout=30)
    send: Any = opened.unary_unary(METHOD)
    took: list[tuple[float, float, str]] = []
    calls, chance, pause = [], random.Random(1), threading.Event()
    began = due = time.monotonic()
    while due < began + said["seconds"]:
        pause.wait(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        metadata = (("authorization", f"Bearer {said['token']}"),)
        call = send.future(REQUEST, timeout=DEADLINE_S, metadata=metadata)

        def ended(done: Any, sent: float = sent) -> None:
            took.append((sent - began, time.monotonic() - sent, done.code().name))

        call.add_done_callback(ended)
        calls.append(call)
        due += chance.expovariate(said["rate"])
    for call in calls:
        call.exception()
    print(json.dumps([[seconds, code] for at, seconds, code in took if at >= SETTLES_S]), flush=True)


@dataclass(frozen=True)
class Instance:
    """One process."""

    process: "subprocess.Popen[bytes]"
    port: int


def _instances(stand: Stand, caller: Caller) -> list[Instance]:
    found = []
    for _ in range(INSTANCES):
        command = [sys.executable, "-m", "bench.slow_instance", "--serve"]
        process = stand.start(command, core=every_core(), stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{caller.keys}\n".encode())
        process.stdin.flush()
        found.append(Instance(process, int(process.stdout.readline())))
    return found


@contextmanager
def calm(_pid: int) -> Iterator[None]:
    """Nobody is slow."""
    yield


@contextmanager
def quota(pid: int) -> Iterator[None]:
    """A process has 5 % of a core, in a cgroup of its own."""
    group = GROUPS / f"weft-bench-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(int(PERIOD_S * 1e6)))
        (group / "cpu.cfs_quota_us").write_text(str(int(PERIOD_S * 1e6 * SHARE)))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (GROUPS / "cgroup.procs").write_text(str(pid))
        group.rmdir()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process runs for 5 % of each period, all its threads at once, and is stopped for the rest."""
    end = threading.Event()

    def alternate() -> None:
        while not end.is_set():
            os.kill(pid, signal.SIGSTOP)
            end.wait(PERIOD_S * (1 - SHARE))
            os.kill(pid, signal.SIGCONT)
            end.wait(PERIOD_S * SHARE)

    thread = threading.Thread(target=alternate)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


Slowing = Callable[[int], contextlib.AbstractContextManager[None]]


def ways() -> dict[str, Slowing]:
    """How an instance can be slow here; first how none is."""
    found: dict[str, Slowing] = {"calm": calm, "quota": quota, "stopped": stopped}
    if not os.access(GROUPS / "cgroup.procs", os.W_OK):
        del found["quota"]
    return found


@dataclass(frozen=True)
class Run:
    """One measurement."""

    calls: int
    failed: int
    p50_ms: float
    p99_ms: float


class Mesh:
    """Control plane, gateway and instances, with the balancing of one side."""

    def __init__(self, stand: Stand, instances: list[Instance], caller: Caller, *, side: str) -> None:
        folder = stand.folder / side.replace(" ", "-")
        folder.mkdir()
        port = free_port()
        edge = Edge(port=port, tls_port=free_port(), tls_secret=ours.secret_in(folder))
        made = ours.changed(compiler.compile_contracts((report.ROOT / "protos/gen/contracts.binpb").read_bytes(), edge))
        if side == "round robin":
            for resource in made.resources:
                _round_robin(resource.message)
        compiler.write(made, folder / "bundle")
        plane = ours.ControlPlane()
        stand.at_end(plane.close)
        endpoints = [
            Endpoint(ServiceName("catalog"), f"catalog-{number}", HOST, instance.port)
            for number, instance in enumerate(instances, 1)
        ]
        plane.serve(bundle.parse(*read_bundle(folder / "bundle")), endpoints, caller.keys)
        config, ready = ours.bootstrap_of(folder, control_planes=[plane.port], collector=None)
        stand.envoy(folder.name, config, ready=ready, environ={names.INSTANCE_VARIABLE: "gateway-1"})
        self._environ: dict[str, str] = {}
        bootstrap.install(self._environ, [f"{HOST}:{plane.port}"], bootstrap.Client("bench", "bench"))
        self._caller = caller
        self.targets = {"grpc": "xds:///catalog", "gateway": f"{HOST}:{port}"}

    def run(self, client: str, *, rate: float, seconds: float) -> Run:
        """Call for a while, by a process of its own: gRPC reads its bootstrap once."""
        said = {"target": self.targets[client], "token": self._caller.token(), "rate": rate, "seconds": seconds}
        done = subprocess.run(
            [sys.executable, "-m", "bench.slow_instance", "--load"],
            input=json.dumps(said) + "\n",
            env={**os.environ, **self._environ},  # noqa: TID251 - processes of a bench live where it lives
            cwd=report.ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BenchError(f"the client failed: {done.stderr[-500:]}")
        ended = json.loads(done.stdout)
        # A refused call is the worst that a slow instance can do.
        took = sorted(seconds if code == "OK" else DEADLINE_S for seconds, code in ended)
        return Run(
            calls=len(took),
            failed=sum(code != "OK" for _, code in ended),
            p50_ms=round(took[len(took) // 2] * 1000, 1),
            p99_ms=round(took[int(len(took) * 0.99)] * 1000, 1),
        )


def _round_robin(message: Any) -> None:
    if message.DESCRIPTOR.name != "Cluster":
        return
    name = "envoy.load_balancing_policies.round_robin"
    plain = envoy("extensions.load_balancing_policies.round_robin.v3.RoundRobin")
    policy = {"policies": [{"typed_extension_config": {"name": name, "typed_config": plain}}]}
    message.load_balancing_policy.CopyFrom(
        envoy("config.cluster.v3.Cluster", load_balancing_policy=policy).load_balancing_policy
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a run can be told."""
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="length of each measurement, the first five included"
    )
    parser.add_argument("--rate", type=float, default=60.0, help="calls per second")
    parser.add_argument("--rounds", type=report.whole, default=3, help="measurements of each kind, in turns")


def measure(options: argparse.Namespace) -> list[Claim]:
    """Both clients, both sides, every way to be slow."""
    with tempfile.TemporaryDirectory(prefix="weft-", dir="/tmp") as folder, Stand(Path(folder)) as stand:
        caller = Caller("catalog.read")
        instances = _instances(stand, caller)
        meshes = {side: Mesh(stand, instances, caller, side=side) for side in SIDES}

        def run(client: str, side: str, slowing: Slowing) -> Run:
            with slowing(instances[-1].process.pid):
                return meshes[side].run(client, rate=options.rate, seconds=options.seconds)

        kinds = {
            (client, side, way): partial(run, client, side, slowing)
            for client in ("grpc", "gateway")
            for side in SIDES
            for way, slowing in ways().items()
        }
        found = in_turns(kinds, options.rounds)
    return [
        _claim("slow_instance_p99", "straight", {key[1:]: runs for key, runs in found.items() if key[0] == "grpc"}),
        _claim(
            "slow_instance_p99_gateway",
            "through the gateway",
            {key[1:]: runs for key, runs in found.items() if key[0] == "gateway"},
        ),
    ]


def _claim(name: str, how: str, found: Mapping[tuple[str, str], Sequence[Run]]) -> Claim:
    p99 = {key: statistics.median(run.p99_ms for run in runs) for key, runs in found.items()}
    ratios = {
        side: {way: ratio(p99[side, way], p99[side, "calm"]) for other, way in found if other == side and way != "calm"}
        for side in SIDES
    }
    says = f"p99 with one of four instances at 5 % CPU, over p99 without, {how}"
    runs = {f"{side}, {way}": [asdict(run) for run in runs] for (side, way), runs in found.items()}
    return Claim(name, says, max(ratios["ours"].values()), "ratio", FLOOR, GOAL, {"ratios": ratios, "runs": runs})


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        report.log_to_stderr()
        serve()
    elif sys.argv[1:] == ["--load"]:
        load()
    else:
        sys.exit(report.main(sys.modules[__name__]))
