"""One schedule, done to a running mesh: call, hurt, heal, fall silent, drain, read, judge."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.chaos import history, reads
from tests.chaos.check import DURING, State, Verdict, find, judge
from tests.chaos.faults import Faults
from tests.chaos.history import Books, Recorder
from tests.chaos.observers import Observers
from tests.chaos.schedule import FAULTS, Fault, Schedule
from tests.chaos.workload import Workload
from tests.integration.shop import Shop

#: ISO 4217 keeps this code for tests: in the roll-up nothing else has it.
CURRENCY: Final = "XTS"
HISTORY: Final = "history.jsonl"
BOOKS: Final = "books.json"
#: How often a run is judged while it goes on, and how much longer than that takes is waited in between.
JUDGE_EVERY_S: Final = 5.0
JUDGE_SHARE: Final = 20.0


def run(mesh: Mesh, schedule: Schedule, folder: Path) -> Verdict:
    """Do it, keep history and books in `folder`, and judge them."""
    folder.mkdir(parents=True, exist_ok=True)
    operator = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
    uneven: list[str] = []
    with deaths() as died, contextlib.closing(operator):
        shop = Shop(mesh, operator, currency=CURRENCY)
        counted_before = reads.counted(shop)
        with (folder / HISTORY).open("w") as file:
            recorder = Recorder(file)
            workload, faults = Workload(shop, recorder, seed=schedule.seed), Faults(mesh, recorder)
            observers = _observers(shop, recorder, workload, seed=schedule.seed)

            def quiet() -> None:
                workload.stop()
                observers.stop()

            def read() -> None:
                found = reads.read(shop, workload.customers, workload.products, counted_before=counted_before)
                versions, cached = observers.cache.settled()
                found = replace(found, versions=versions, cached=cached, lists=observers.lists.all())
                found.write(folder / BOOKS)

            ending: Mapping[Fault, Callable[[], object]] = {
                Fault.HEAL: faults.heal,
                Fault.QUIET: quiet,
                Fault.DRAIN: lambda: uneven.extend(reads.drain(mesh)),
                Fault.READ: read,
            }
            try:
                workload.start()
                observers.start()
                with Referee(folder / HISTORY) as referee:
                    _follow(schedule, faults, ending, over=referee.over)
            finally:
                quiet()
                observers.close()
    verdict = again(schedule, folder)
    seen = {"every_book_of_the_mesh_is_even": uneven, "whoever_calls_or_looks_does_so_to_the_end": died}
    broken = {**verdict.broken, **{name: found for name, found in seen.items() if found}}
    return replace(verdict, state=State.BROKEN, broken=broken) if broken else verdict


@contextlib.contextmanager
def deaths() -> Iterator[list[str]]:
    """What threads died of meanwhile: who looked until then has shown nothing of what came after."""
    died: list[str] = []
    before = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        died.append(f"{args.exc_type.__name__}: {args.exc_value}")
        before(args)

    threading.excepthook = note
    try:
        yield died
    finally:
        threading.excepthook = before


def again(schedule: Schedule, folder: Path) -> Verdict:
    """Judge a run by what it has left in `folder`. Raises HistoryError and OSError."""
    return judge(schedule, history.read(folder / HISTORY), history.Books.read(folder / BOOKS))


class Referee:
    """Judges a run while it goes on by what must hold at every moment. What comes after a break only covers its tracks,
    so `over` is set then, and the schedule is cut short."""

    def __init__(self, history_file: Path) -> None:
        self.over = threading.Event()
        self._file = history_file
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="referee")

    def __enter__(self) -> "Referee":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        nothing = Books(stock={}, orders={}, placed=[], events=[], audited=[], counted=0, mailed=[])
        pause_s = JUDGE_EVERY_S
        while not self._stopping.wait(pause_s) and not self.over.is_set():
            began = time.monotonic()
            broken = find(history.read(self._file), nothing, DURING)
            # A long history takes long: the mesh needs the processor more.
            pause_s = max(JUDGE_EVERY_S, JUDGE_SHARE * (time.monotonic() - began))
            if broken:
                print(f"  broken already: {', '.join(name.replace('_', ' ') for name in broken)}", flush=True)
                self.over.set()


def _observers(shop: Shop, recorder: Recorder, workload: Workload, *, seed: int) -> Observers:
    def users() -> list[str]:
        return [customer.id for customer in list(workload.customers)]

    return Observers(shop, recorder, seed=seed, users=users, products=workload.products)


def _follow(
    schedule: Schedule, faults: Faults, ending: Mapping[Fault, Callable[[], object]], *, over: threading.Event
) -> None:
    """Do each step at its time; the last ones one after the other, and at once where it is over."""
    began, number = time.monotonic(), 0
    for step in schedule.steps:
        over.wait(max(0.0, began + step.at_s - time.monotonic()))
        if step.fault not in FAULTS:
            ending[step.fault]()
        elif not over.is_set():
            faults.begin(number, step)
            number += 1
