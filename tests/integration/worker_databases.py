"""Migrated databases of workers, and handling events in them as several workers do."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from svc.chassis.bounded import parse_url
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from worker import wiring
from worker.delivery import Event
from worker.errors import Outage
from worker.runner import Handler

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = {**wiring.MIGRATIONS, "analytics": ROOT / "svc" / "analytics" / "migrations"}


class Migrated:
    """A migrated database of one kind of worker."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.database = Database(url, pool_size=4, name=name)
        self.engine = sa.create_engine(parse_url(url))

    def read(self, query: Callable[[Transaction], Any]) -> Any:
        return self.database.read(query, deadline=Deadline.after(10))

    def close(self) -> None:
        self.database.close()
        self.engine.dispose()


@contextmanager
def databases(migrated_url: Callable[[str, str], str]) -> Iterator[Callable[[str], Migrated]]:
    """Make migrated databases until the end of the block."""
    opened: list[Migrated] = []

    def make(name: str) -> Migrated:
        opened.append(Migrated(migrated_url(name, str(MIGRATIONS[name])), name))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do the work that many times at once; the first failure is the test's."""
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def through_outages(handler: Handler, events: Sequence[Event]) -> None:
    """Handle a batch as the runner does: again until no outage stops it."""
    for _ in range(200):
        try:
            return handler.handle(events)
        except Outage:
            continue
    raise AssertionError("the outage does not end")
