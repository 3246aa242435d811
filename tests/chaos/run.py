"""One schedule, done to a running mesh: call, hurt, heal, fall silent, drain, read, judge."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.chaos import history, reads
from tests.chaos.check import State, Verdict, judge
from tests.chaos.faults import Faults
from tests.chaos.history import Recorder
from tests.chaos.schedule import FAULTS, Fault, Schedule
from tests.chaos.workload import Workload
from tests.integration.shop import Shop

#: ISO 4217 keeps this code for tests: in the roll-up nothing else has it.
CURRENCY: Final = "XTS"
HISTORY: Final = "history.jsonl"
BOOKS: Final = "books.json"


def run(mesh: Mesh, schedule: Schedule, folder: Path) -> Verdict:
    """Do it, keep history and books in `folder`, and judge them."""
    folder.mkdir(parents=True, exist_ok=True)
    operator = GatewayClient.for_operator(mesh.gateway, mesh.secrets)
    uneven: list[str] = []
    try:
        shop = Shop(mesh, operator, currency=CURRENCY)
        counted_before = reads.counted(shop)
        with (folder / HISTORY).open("w") as file:
            recorder = Recorder(file)
            workload, faults = Workload(shop, recorder, seed=schedule.seed), Faults(mesh, recorder)

            def read() -> None:
                found = reads.read(shop, workload.customers, workload.products, counted_before=counted_before)
                found.write(folder / BOOKS)

            ending: Mapping[Fault, Callable[[], object]] = {
                Fault.HEAL: faults.heal,
                Fault.QUIET: workload.stop,
                Fault.DRAIN: lambda: uneven.extend(reads.drain(mesh)),
                Fault.READ: read,
            }
            workload.start()
            try:
                _follow(schedule, faults, ending)
            finally:
                workload.stop()
    finally:
        operator.close()
    verdict = again(schedule, folder)
    if uneven:
        broken = {**verdict.broken, "every_book_of_the_mesh_is_even": uneven}
        verdict = replace(verdict, state=State.BROKEN, broken=broken)
    return verdict


def again(schedule: Schedule, folder: Path) -> Verdict:
    """Judge a run by what it has left in `folder`. Raises HistoryError and OSError."""
    return judge(schedule, history.read(folder / HISTORY), history.Books.read(folder / BOOKS))


def _follow(schedule: Schedule, faults: Faults, ending: Mapping[Fault, Callable[[], object]]) -> None:
    """Do each step at its time; the last ones one after the other."""
    began, number = time.monotonic(), 0
    for step in schedule.steps:
        threading.Event().wait(max(0.0, began + step.at_s - time.monotonic()))
        if step.fault in FAULTS:
            faults.begin(number, step)
            number += 1
        else:
            ending[step.fault]()
