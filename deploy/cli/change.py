"""The verbs that change a running mesh, under a load where one is asked for: roll, scale, kill. Registered by app.py.

Under a load each prints what its callers saw, and exits 1 where one of them saw an error. Progress goes to standard
output, or with `--json` to standard error.
"""

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from threading import Event
from typing import Annotated, Any

import grpc
import typer

from deploy.cli import exits, kills, names, rolling
from deploy.cli.durations import seconds
from deploy.cli.exits import Json, fail
from deploy.cli.gateway_client import SignInError, describe
from deploy.cli.load.run import RPS_MAX, UnderLoad, lines
from deploy.cli.load.tally import Seen
from deploy.cli.load.traffic import Wanted
from deploy.cli.replay import books
from deploy.cli.replay.balance import Row
from deploy.supervisor.autoscale import Bounds
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.desired import INSTANCES_MAX, SCALABLE
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.part import Kind

Rps = Annotated[
    float | None,
    typer.Option("--under-load", min=1, max=RPS_MAX, metavar="RPS", help="Meanwhile call so often a second."),
]
Balance = Annotated[bool, typer.Option("--balance", help="Then hold all books against each other, as `weft demo`.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same calls and the same targets.")]


@dataclass(slots=True)
class _Change:
    """What is told of one change, as it happens and at the end."""

    mesh: Mesh
    say: Callable[[str], None]
    load: UnderLoad | None = None
    targets: list[dict[str, Any]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """What went wrong beside calls."""
    stopped: bool = False

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[dict[str, Any]]:
        """Something is done to a part; what is put into the dictionary is told of it at the end."""
        target: dict[str, Any] = {"name": name, "what": what}
        began = time.monotonic()
        window = None if self.load is None else self.load.open()
        try:
            yield target
        except RefusedError as error:
            target["failed"] = str(error)
            raise
        finally:
            target["seconds"] = round(time.monotonic() - began, 3)
            if window is not None and self.load is not None:
                target |= _seen(self.load.close(window))
            self.targets.append(target)
            self.say(target_line(target))


def roll(
    service: Annotated[
        str, typer.Argument(help="A service, a worker, `control-plane`, `gateway`, ...", autocompletion=names.services)
    ],
    rps: Rps = None,
    balance: Balance = False,
    seed: Seed = 1,
    json_: Json = False,
) -> None:
    """Replace every instance of something by a new process of the code that lies here, one after another.

    First one more is started beside them, where that is possible, so that there are never fewer than before. Each is
    drained: it ends when no client has it any more. On Ctrl-C the one at hand is finished, and no other begun.

    Example: weft roll orders --under-load 100
    """
    mesh = Mesh(Settings.from_environ().data)
    names = rolling.instances(mesh.status(), service)

    def work(change: _Change) -> None:
        rolling.roll(mesh, service, names, step=change.step)

    _run(work, mesh=mesh, wanted=_wanted(rps, seed, service=service), balance=balance, as_json=json_)


def scale(
    service: Annotated[str, typer.Argument(help="A service, a worker, or `gateway`.", autocompletion=names.scalable)],
    size: Annotated[str, typer.Argument(help="So many instances, such as 3; or `auto`, or bounds for it such as 2-6.")],
    rps: Rps = None,
    balance: Balance = False,
    seed: Seed = 1,
    json_: Json = False,
) -> None:
    """Have more or fewer instances of something, while everything goes on.

    Those that go are drained first, the last one first. It holds until the mesh is stopped. With `auto`, or bounds, the
    load decides from now on how many there are.

    Example: weft scale gateway 3 --under-load 100, weft scale orders auto, weft scale orders 2-6
    """
    wanted = _size(size)
    if service not in SCALABLE:
        raise typer.BadParameter(f"{service} cannot be resized while the mesh runs; {', '.join(SCALABLE)} can")
    mesh = Mesh(Settings.from_environ().data)
    mesh.status()

    def work(change: _Change) -> None:
        with change.step(service, f"to {size}") as told:
            scaled = mesh.scale(service, wanted) if isinstance(wanted, int) else mesh.scale_by_load(service, *wanted)
            told |= {"started": list(scaled.started), "stopped": list(scaled.stopped)}

    _run(work, mesh=mesh, wanted=_wanted(rps, seed, service=service), balance=balance, as_json=json_)


def kill(
    name: Annotated[str, typer.Argument(help="A process, such as orders-1, or `any`.", autocompletion=names.targets)],
    number: Annotated[str, typer.Option("--signal", help="KILL, TERM, STOP, or another by name or number.")] = "KILL",
    every: Annotated[float | None, typer.Option(parser=seconds, metavar="TIME", help="Again and again: 5s.")] = None,
    for_: Annotated[float | None, typer.Option("--for", parser=seconds, metavar="TIME", help="So long: 60s.")] = None,
    kind: Annotated[list[Kind] | None, typer.Option(help="Whom `any` means; repeatable.")] = None,
    rps: Rps = None,
    balance: Balance = False,
    seed: Seed = 1,
    json_: Json = False,
) -> None:
    """End a part, or one after another, to see that nobody notices. The supervisor starts again whatever dies.

    `any` is a service instance, a control plane, a Memcached or an etcd member, each once before any of them twice. The
    next one is not ended before the last one is back for two seconds. Who was sent STOP gets CONT, unless replaced.

    Example: weft kill any --every 5s --for 60s --under-load 50
    """
    chosen = _signal(number)
    if for_ is not None and every is None:
        raise typer.BadParameter("--for says how long --every goes on; give both")
    if kind and name != "any":
        raise typer.BadParameter(f"--kind says whom `any` means, and {name} is one already")
    mesh = Mesh(Settings.from_environ().data)
    status = mesh.status()
    names = (kills.named(status, name),) if name != "any" else kills.candidates(status, kind or kills.KINDS_ANY)
    if not names:
        raise RefusedError(f"nothing of the kind {', '.join(kind or ())} runs")
    gateways = any(process.name in names and process.kind == Kind.GATEWAY for process in status.processes)

    def work(change: _Change) -> None:
        _strike(change, names, chosen, pace=Pace(every, for_), seed=seed)

    _run(work, mesh=mesh, wanted=_wanted(rps, seed, reconnect=gateways), balance=balance, as_json=json_)


@dataclass(frozen=True, slots=True)
class Pace:
    """When targets are struck: each due moment that is not past yet, until the end."""

    every_s: float | None
    """None: once."""
    for_s: float | None
    """None: until somebody stops it."""

    def next_due(self, passed_s: float) -> float | None:
        """Seconds from the beginning to the next moment; None where there is none any more."""
        if self.every_s is None:
            return None
        due = (passed_s // self.every_s + 1) * self.every_s
        return None if self.for_s is not None and due >= self.for_s else due


def _strike(change: _Change, names: Sequence[str], number: signal.Signals, *, pace: Pace, seed: int) -> None:
    began = time.monotonic()
    for name in kills.order(names, seed=seed):
        with change.step(name, number.name.removeprefix("SIG")) as told:
            told["at_s"] = round(time.monotonic() - began, 3)
            told["back_after_s"] = round(kills.strike(change.mesh, name, number), 3)
        due = pace.next_due(time.monotonic() - began + kills.SETTLED_S)
        if due is None:
            break
        Event().wait(max(0.0, began + due - time.monotonic()))
    if pace.for_s is not None:
        Event().wait(max(0.0, began + pace.for_s - time.monotonic()))


def _run(work: Callable[[_Change], None], *, mesh: Mesh, wanted: Wanted | None, balance: bool, as_json: bool) -> None:
    """Do the work, under load where one is wanted; tell what was seen, and leave with what that means."""

    def say(line: str) -> None:
        print(line, file=sys.stderr if as_json else sys.stdout, flush=True)

    change = _Change(mesh, say)
    try:
        with ExitStack() as steps:
            if wanted is not None:
                change.load = steps.enter_context(UnderLoad(mesh, wanted, say=say))
            _guarded(work, change)
        rows: Sequence[Row] = (
            () if not balance else books.settle(_environment(mesh), _mail(mesh), on_wait=lambda _: None)
        )
    except (SignInError, books.FactsError) as error:
        fail(exits.UNREACHABLE, str(error))
    except grpc.RpcError as error:
        fail(exits.FAILED, f"the load could not be prepared or counted: {describe(error)}")
    answer: dict[str, Any] = {"targets": change.targets, "stopped": change.stopped, "trouble": change.trouble}
    if change.load is not None and wanted is not None:
        answer |= {"load": {"rps": wanted.rps, "seed": wanted.seed, **change.load.result}}
    if balance:
        answer["balance"] = [asdict(row) for row in rows]
    good = not change.trouble and (change.load is None or change.load.good) and all(row.even for row in rows)
    answer["good"] = good
    if as_json:
        print(json.dumps(answer))
    else:
        for line in (*(lines(answer["load"]) if "load" in answer else ()), *map(row_line, rows)):
            print(line)
    for line in change.trouble:
        print(f"weft: {line}", file=sys.stderr)
    if not good or change.stopped:
        raise typer.Exit(exits.FAILED if not good else exits.INTERRUPTED)


def _guarded(work: Callable[[_Change], None], change: _Change) -> None:
    """Whatever ends the work, what was seen until then is told."""
    try:
        work(change)
    except KeyboardInterrupt:
        change.stopped = True
    except RefusedError as error:
        change.trouble.append(str(error))


def _size(text: str) -> int | tuple[Bounds | None]:
    """A number, or the bounds between which the load decides; without any where the usual ones are meant."""
    if text == "auto":
        return (None,)
    least, dash, most = text.partition("-")
    numbers = (least, most) if dash else (least,)
    if not all(number.isascii() and number.isdigit() and int(number) <= INSTANCES_MAX for number in numbers):
        raise typer.BadParameter(f"{text} is no size; give 0 to {INSTANCES_MAX}, `auto`, or bounds such as 2-6")
    if not dash:
        return int(least)
    try:
        return (Bounds(int(least), int(most)),)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _wanted(rps: float | None, seed: int, *, reconnect: bool = False, service: str = "") -> Wanted | None:
    if rps is None:
        return None
    if math.isnan(rps):  # neither below nor above any bound
        raise typer.BadParameter("--under-load nan: give a number of calls a second")
    return Wanted(rps, seed, reconnect, service)


def _environment(mesh: Mesh) -> Mapping[str, str]:
    return {**child_environ(), "WEFT_SECRETS": str(mesh.secrets)}


def _mail(mesh: Mesh) -> str:
    return str(mesh.status().urls["mail"]).rstrip("/")


def _seen(seen: Seen) -> dict[str, Any]:
    return {"requests": seen.requests, "errors": seen.errors, "worst_gap_s": round(seen.worst_gap_s, 3)}


def target_line(target: Mapping[str, Any]) -> str:
    """What happened to one part."""
    parts = [f"{target['name']:<22} {target['what']}"]
    parts += [f"{verb} {', '.join(target[verb])}" for verb in ("started", "stopped") if target.get(verb)]
    if "failed" in target:
        parts.append("failed")
    elif "back_after_s" in target:
        parts.append(f"back after {target['back_after_s']:.1f} s")
    else:
        parts.append(f"{target['seconds']:.1f} s")
    if "errors" in target:
        parts.append(f"{target['errors']} errors of {target['requests']}, worst gap {target['worst_gap_s']:.3f} s")
    return ", ".join(parts)


def row_line(row: Row) -> str:
    """One comparison of the books."""
    return f"{row.name:<22} {row.left:<28} {row.right:<32} {'even' if row.even else 'NOT EVEN'}"


def _signal(text: str) -> signal.Signals:
    name = text.upper().removeprefix("SIG")
    try:
        return signal.Signals(int(name)) if name.isdigit() else signal.Signals[f"SIG{name}"]
    except (KeyError, ValueError) as error:
        raise typer.BadParameter(f"{text} is not a signal; use a name such as TERM, or a number") from error
