"""How long the console takes to show the truth: of kills, other sizes, rolls, dead letters and alerts.

Starts a mesh of its own, whole and on free ports, and opens its console in Chromium through its gateways, signed in as
the operator. Whatever becomes true is timed from where it is known first until the page says so: a kill and a dead
letter from the moment before the signal is sent, or the message published; what becomes of processes from the last
answer of the supervisor that did not say it yet, what fires from that of Prometheus. Both, and the page, are asked
fifty times a second. Of the operations service, from which the page has its news and which is there once, a kill is
shown when the page says that it has none. The figure is the longest of all.
"""

import argparse
import contextlib
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import pika
import playwright.sync_api
import yaml
from pika.exceptions import AMQPError

from bench import console_deeds, report
from bench.console_deeds import Deed
from bench.console_page import Console
from bench.measure import in_turns, summary
from bench.report import ROOT, BenchError, Claim
from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.config import Settings
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests.browser import chromium, sign_in, tab
from weft.operations.v1 import mesh_pb2, mesh_pb2_grpc
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import work_queue
from worker.delivery import DeadLetter, Delivery
from worker.errors import Outage

FLOOR: Final = 2.0
PAGE: Final = ROOT / "build" / "console" / "index.html"
#: One is slow to come back, another quicker than anybody looks; the page's connection goes through one of the gateways.
KILLED: Final = ("catalog-1", "email-1", "memcached-1", "gateway-1", "gateway-2", "operations-1")
#: From whom the page has its news.
TELLS: Final = "operations-1"
#: What is resized and rolled.
SERVICE: Final = "catalog"
WORKER: Final = "email"
REASON: Final = "put aside to see how soon it is seen"
ALERT: Final = "ConsoleTruth"
POLL_S: Final = 0.02
PATIENCE_S: Final = 90.0
ASK_S: Final = 5.0

Lag = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """A mesh, and the console in front of it."""

    mesh: Mesh
    operator: GatewayClient
    console: Console
    publisher: Publisher
    rules: Path
    """Those that watch the contracts, as Prometheus has them."""


def timed(console: Console, deed: Deed, *, patience_s: float = PATIENCE_S) -> list[Lag]:
    """Do it; for each truth its name, and the seconds from when it was so until the page said it.

    Raises BenchError where the page does not show what is so before, or what becomes so, or shows it too early.
    """
    truths = deed.truths
    _prepare(console, deed, patience_s)
    shown: dict[int, float] = {}
    over = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        hearing, doing = pool.submit(_heard, deed, began, over), pool.submit(deed.do)
        both: tuple[Future[Any], ...] = (hearing, doing)
        try:
            while len(shown) < len(truths):
                seen, now = console.look(), time.monotonic()
                shown |= {at: now for at, truth in enumerate(truths) if at not in shown and truth.shown(seen)}
                _raise_what_went_wrong(both)
                if now - began > patience_s:
                    late = [truth.name for at, truth in enumerate(truths) if at not in shown]
                    raise BenchError(f"the page never said {late}; it shows {seen}")
                over.wait(POLL_S)
            if wait(both, patience_s).not_done:
                raise BenchError(f"{deed.place}: the page shows what nobody else tells")
        finally:
            over.set()
        _raise_what_went_wrong(both)
        since = hearing.result()
    return [(truth.name, shown[at] - since[at]) for at, truth in enumerate(truths)]


def _prepare(console: Console, deed: Deed, patience_s: float) -> None:
    console.open(deed.place)
    until = time.monotonic() + patience_s
    while not deed.before(seen := console.look()):
        if time.monotonic() > until:
            raise BenchError(f"{deed.place}: the page does not show what is so before; it shows {seen}")
        threading.Event().wait(POLL_S)
    if early := [truth.name for truth in deed.truths if truth.shown(seen)]:
        raise BenchError(f"the page says {early} before anything is done")


def _heard(deed: Deed, began: float, over: threading.Event) -> Mapping[int, float]:
    """For each truth, the last moment at which it was not known to be one."""
    since = {at: began for at, truth in enumerate(deed.truths) if truth.told is None}
    before = began
    while len(since) < len(deed.truths) and not over.is_set():
        asked, answer = time.monotonic(), deed.ask()
        for at, truth in enumerate(deed.truths):
            if at not in since and truth.told is not None and truth.told(answer):
                since[at] = before
        before = asked
        over.wait(POLL_S)
    return since


def _raise_what_went_wrong(both: Sequence["Future[Any]"]) -> None:
    for future in both:
        if future.done():
            future.result()


def kills(stage: Stage) -> Iterator[Deed]:
    """Of each of those, one after the other."""
    for name in KILLED:
        process = stage.mesh.wait_ready().process(name)
        yield console_deeds.kill(process, partial(stage.mesh.kill, name), stage.mesh.status, tells=name == TELLS)


def sizes(stage: Stage) -> Iterator[Deed]:
    """One instance more, and one less again."""
    scale = mesh_pb2_grpc.MeshServiceStub(stage.operator.channel()).ScaleService
    size = stage.mesh.wait_ready().sizes[SERVICE].desired

    def to(size: int) -> Callable[[], object]:
        return partial(stage.operator.call, scale, mesh_pb2.ScaleServiceRequest(name=f"services/{SERVICE}", size=size))

    yield console_deeds.grow(SERVICE, size, to(size + 1), stage.mesh.status)
    yield console_deeds.shrink(SERVICE, size, to(size), stage.mesh.status)


def rolls(stage: Stage) -> Iterator[Deed]:
    """From its beginning to its end, by the supervisor itself."""
    method = mesh_pb2_grpc.MeshServiceStub(stage.operator.channel()).RollService
    request = mesh_pb2.RollServiceRequest(name=f"services/{SERVICE}")
    processes = [each for each in stage.mesh.wait_ready().processes if each.service == SERVICE]
    yield console_deeds.roll(processes, partial(stage.operator.call, method, request), stage.mesh.status)


def letters(stage: Stage) -> Iterator[Deed]:
    """An event put aside as a worker does it, and taken away again."""
    queue = work_queue(WORKER)
    event = Delivery(queue.name, b"no envelope", "console-truth", "weft.orders.v1.OrderPlaced")

    def purge() -> None:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(_broker(stage.mesh)))) as connection:
            channel, until = connection.channel(), time.monotonic() + PATIENCE_S
            # The page has it in hand for a moment whenever it looks through them, and then it is not purged.
            while not channel.queue_purge(queue.dead).method.message_count:
                if time.monotonic() > until:
                    raise BenchError("there is no dead letter to be taken away")
                threading.Event().wait(POLL_S)

    put = partial(Ladder(stage.publisher, queue).move, event, DeadLetter(REASON))
    yield console_deeds.put_aside(WORKER, REASON, put)
    yield console_deeds.take_away(WORKER, REASON, purge)


def alerts(stage: Stage) -> Iterator[Deed]:
    """A rule of which every evaluation fires, given to Prometheus and taken back."""
    url = f"{str(stage.mesh.status().urls['metrics']).rstrip('/')}/api/v1/alerts"
    usual = stage.rules.read_text()
    rule = {"alert": ALERT, "expr": "vector(1)", "labels": {"severity": "info"}}
    more = {"groups": [*yaml.safe_load(usual)["groups"], {"name": "console-truth", "rules": [rule]}]}

    def firing() -> frozenset[str]:
        with urllib.request.urlopen(url, timeout=ASK_S) as answer:
            found = json.load(answer)["data"]["alerts"]
        return frozenset(each["labels"]["alertname"] for each in found if each["state"] == "firing")

    yield console_deeds.fire(ALERT, partial(stage.mesh.watch, yaml.safe_dump(more)), firing)
    yield console_deeds.cease(ALERT, partial(stage.mesh.watch, usual), firing)


KINDS: Final[Mapping[str, Callable[[Stage], Iterator[Deed]]]] = {
    "kill": kills,
    "scale": sizes,
    "roll": rolls,
    "letter": letters,
    "alert": alerts,
}


@contextmanager
def staged() -> Iterator[Stage]:
    """A mesh of its own, and its console in a browser."""
    if not PAGE.exists():
        raise BenchError(f"{PAGE.relative_to(ROOT)} is missing: `make setup` builds the page")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary())
        mesh = stack.enter_context(Mesh(folder, ports="free", ephemeral=True, settings=Settings(data=folder)))
        url = mesh.start().gateway
        operator = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
        stack.callback(operator.close)
        publisher = Publisher(_broker(mesh), name="bench")
        publisher.start()
        stack.callback(publisher.stop, ASK_S)
        if not publisher.ready(PATIENCE_S):
            raise BenchError("the broker does not answer")
        page, _ = stack.enter_context(tab(stack.enter_context(chromium())))
        email, password = ((mesh.secrets / f"operator.{name}").read_text().strip() for name in ("email", "password"))
        sign_in(page, url, email, password)
        yield Stage(mesh, operator, Console(page), publisher, Layout(folder).slo)


def _broker(mesh: Mesh) -> str:
    return (mesh.secrets / "amqp.url").read_text().strip().partition(",")[0]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a run can be told."""
    parser.add_argument("--rounds", type=report.whole, default=3, help="how often each thing is done (default 3)")
    parser.add_argument(
        "--only", action="append", choices=tuple(KINDS), help="this and no other; may be said again (default all)"
    )


def measure(options: argparse.Namespace) -> list[Claim]:
    """All of it in turns, on one mesh."""

    def done(stage: Stage, kind: str) -> list[Lag]:
        return [lag for deed in KINDS[kind](stage) for lag in timed(stage.console, deed)]

    try:
        with staged() as stage:
            found = in_turns({kind: partial(done, stage, kind) for kind in options.only or KINDS}, options.rounds)
    except (SupervisorError, Outage, AMQPError, grpc.RpcError, playwright.sync_api.Error, OSError) as error:
        raise BenchError(f"{type(error).__name__}: {error}") from error
    name = "_".join(("console_truth", *(options.only or ()), "s"))
    return [claim(name, [lag for rounds in found.values() for lags in rounds for lag in lags])]


def claim(name: str, lags: Sequence[Lag]) -> Claim:
    """The longest of all, with every sample by what was to be seen."""
    by_name: dict[str, list[float]] = {}
    for truth, seconds in lags:
        by_name.setdefault(truth, []).append(seconds)
    sides = {truth: {**summary(samples), "max": round(max(samples), 2)} for truth, samples in by_name.items()}
    says = "from when something is so until the console's page shows it in a browser, the longest of all"
    longest = round(max(seconds for _, seconds in lags), 3)
    return Claim(name, says, longest, "s", FLOOR, sides={"unit": "s", **sides})


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
