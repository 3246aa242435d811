"""How long it takes until another thousand methods are served: compiled, published through etcd, taken by the control
planes, accepted by Envoy.

Starts etcd, two control planes and an Envoy of its own. Each round publishes contracts that share nothing with those
before, so every piece is new. The clock of the claim runs from the start of the publishing command, its own start
included, until both control planes report that they serve the bundle.
"""

import argparse
import asyncio
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from bench import contracts, report
from bench.measure import summary
from bench.ours import bootstrap_of, secret_in
from bench.report import ROOT, BenchError, Claim
from bench.stand import HOST, Caller, Stand, every_core, free_port, until
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.servers import etcd
from gateway import compiler
from gateway.envoy import names
from gateway.envoy.edge import Edge
from lb.config import EtcdSettings
from lb.registry.etcd import Client, Dialer, Put
from lb.registry.keys import document_key
from lb.registry.statuses import statuses
from lb.status import Verdict, judge

CONTROL_PLANES: Final = ("control-plane-1", "control-plane-2")
ACCEPT_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.01

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of one round; the last three count from the start of the command."""

    compiled: float
    published: float
    served: float
    accepted: float


@dataclass(frozen=True, slots=True)
class Registry:
    """An etcd of the bench's own."""

    address: str

    def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do one piece of work."""

        async def once() -> T:
            async with Dialer(EtcdSettings(endpoints=(self.address,))).session() as client:
                return await work(client)

        return asyncio.run(once())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--methods", type=report.whole, default=1000, help="methods of the contracts (default 1000)")
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds, each with new contracts (default 5)")


def measure(options: argparse.Namespace) -> list[Claim]:
    services = -(-options.methods // contracts.METHODS_PER_SERVICE)
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        registry = etcd_on(stand)
        edge = Edge(port=free_port(), tls_port=free_port(), tls_secret=secret_in(stand.folder))
        _mesh(stand, registry, edge)
        took = [_round(stand, registry, edge, number, services) for number in range(options.rounds)]
    served = [each.served for each in took]
    methods = services * contracts.METHODS_PER_SERVICE
    return [
        Claim(
            "publish",
            f"{methods} new methods, from the start of `lb publish` until both control planes serve them",
            round(statistics.median(served), 3),
            unit="s",
            floor=1.0,
            sides={
                "unit": "s",
                "compiled": summary([each.compiled for each in took]),
                "command ended": summary([each.published for each in took]),
                "served by both control planes": summary(served),
                "accepted by Envoy": summary([each.accepted for each in took]),
            },
        )
    ]


def _round(stand: Stand, registry: Registry, edge: Edge, number: int, services: int) -> Took:
    descriptors = contracts.generate(services, prefix=f"round{number}n")
    bundle = stand.folder / f"bundle-{number}"
    began = time.monotonic()
    compiler.write(compiler.compile_contracts(descriptors, edge), bundle)
    compiled = time.monotonic() - began
    return asyncio.run(_published(registry, bundle, compiled))


async def _published(registry: Registry, bundle: Path, compiled: float) -> Took:
    """Run the command, and look meanwhile at what the control planes say."""
    verdict: Verdict | None = None
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    async with Dialer(EtcdSettings(endpoints=(registry.address,))).session() as client:
        began = time.monotonic()
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "lb", "publish", str(bundle)),
            cwd=ROOT,
            env=environ_of(registry),
            stdout=subprocess.DEVNULL,
        )
        done = asyncio.ensure_future(command.wait())
        published = served = accepted = 0.0
        while not accepted:
            now = time.monotonic() - began
            if now > ACCEPT_TIMEOUT_S:
                raise BenchError(f"not accepted within {ACCEPT_TIMEOUT_S:.0f} s: {verdict and verdict.reasons}")
            if done.done() and not published:
                published = now
                if done.result() != 0:
                    raise BenchError("`lb publish` failed")
            found = await statuses(client)
            serving = [status.instance for status in found if status.bundle == digest]
            if not served and tuple(serving) == CONTROL_PLANES:
                served = time.monotonic() - began
            verdict = judge(digest, found)
            if verdict.state == "refused":
                raise BenchError(f"refused: {'; '.join(verdict.reasons)}")
            if served and verdict.state == "accepted":
                accepted = time.monotonic() - began
            await asyncio.sleep(_POLL_S)
        return Took(compiled, published or served, served, accepted)


def etcd_on(stand: Stand) -> Registry:
    """Start an etcd of the bench's own."""
    member = etcd.Member("etcd-1", free_port(), free_port())
    layout = Layout(stand.folder / "mesh")
    layout.prepare(None)
    layout.private(layout.home(member.name), None)
    command = etcd.server(member, layout, None, cluster=[member]).command
    stand.start(command.argv, core=every_core(), environ=command.env, stderr=subprocess.DEVNULL)
    stand.ready(f"http://{HOST}:{member.client_port}/health", "etcd did not answer")
    return Registry(f"{HOST}:{member.client_port}")


def _mesh(stand: Stand, registry: Registry, edge: Edge) -> None:
    """Two control planes and an Envoy that has the contracts of this clone."""
    keys = Caller("catalog.read").keys.encode()
    registry.ask(lambda client: client.commit([], [Put(document_key("jwks"), keys)]))
    ports = []
    for instance in CONTROL_PLANES:
        ports.append(free_port())
        environ = {**environ_of(registry), "WEFT_INSTANCE": instance, "WEFT_LISTEN": f"{HOST}:{ports[-1]}"}
        command = [sys.executable, "-m", "lb", "control-plane"]
        stand.start(command, core=every_core(), environ=environ, stderr=subprocess.DEVNULL)
    descriptors = (ROOT / "protos/gen/contracts.binpb").read_bytes()
    bundle = stand.folder / "bundle"
    compiler.write(compiler.compile_contracts(descriptors, edge), bundle)
    published = subprocess.run(
        [sys.executable, "-m", "lb", "publish", str(bundle)],
        cwd=ROOT,
        env=environ_of(registry),
        capture_output=True,
        text=True,
        check=False,
    )
    if published.returncode != 0:
        raise BenchError(published.stderr.strip())
    until(lambda: len(registry.ask(statuses)) == len(CONTROL_PLANES), "the control planes were not there")
    config, ready = bootstrap_of(stand.folder / "gateway-1", control_planes=ports, collector=None)
    stand.envoy("gateway-1", config, ready=ready, environ={names.INSTANCE_VARIABLE: "gateway-1"})


def environ_of(registry: Registry) -> dict[str, str]:
    """What a command of ours is told so that it works on that etcd."""
    return {**child_environ(), "WEFT_ETCD": registry.address, "WEFT_LOG_LEVEL": "warning"}


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
