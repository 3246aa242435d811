"""What happened in a run, as those who called saw it: one JSON object a line, written as it happens.

Every operation has an `invoke` and at most one outcome: `ok` it was acknowledged, `fail` it was refused and so did not
happen, `info` nobody knows. One without an outcome counts as `info`. What the operations are called, and what they say:

    open      {product, quantity}            opening stock, acknowledged before the first fault
    place     {customer, key, items}         ok {order}; every repetition of a key is an operation of its own
    cancel    {customer, key, order, items}
    read      {customer, order}              of an order that was acknowledged
    intrude   {how}                          fail {code}: a call that nobody may make
    look      {}                             ok {services: how many endpoints each has, as a control plane tells}
    reprice   {product}                      ok {version}: a product was changed
    quote     {product, bound_s, least}      ok {version}: it was read; `least` is what its read token stands for
    cached    {}                             ok {entries: node, key and what lies there, read straight from the nodes}
    balance   {}                             ok {off, new, gone, eventless, orderless}: one snapshot of the orders
    lists     {steps}                        ok {steps}: appends and reads of one transaction, with what it read
    fault     {step, fault, target, name}    ok: the process felt it; fail {why}
"""

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Self

INVOKE: Final = "invoke"
OK: Final = "ok"
FAIL: Final = "fail"
INFO: Final = "info"
_OUTCOMES: Final = (OK, FAIL, INFO)


class HistoryError(ValueError):
    """A line is no event, or an outcome has no operation. The text names the line."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line."""

    at_s: float
    """Seconds since the begin of the run."""
    op: int
    """Number of the operation."""
    event: str
    name: str
    value: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """What was asked, and what came of it."""

    name: str
    asked: Mapping[str, Any]
    outcome: str
    said: Mapping[str, Any]
    began_s: float
    ended_s: float
    """Infinite where it has no outcome."""


def operations(events: Iterable[Event], *names: str) -> list[Operation]:
    """The operations of these names, in the order in which they began. Raises HistoryError."""
    begun: dict[int, Event] = {}
    ended: dict[int, Event] = {}
    for event in events:
        known = ended if event.event in _OUTCOMES else begun
        if event.op in known or (known is ended and event.op not in begun):
            raise HistoryError(f"operation {event.op}: a second {event.event}, or one without an invoke")
        known[event.op] = event
    found = []
    for number, asked in begun.items():
        if names and asked.name not in names:
            continue
        outcome = ended.get(number)
        if outcome is None:
            found.append(Operation(asked.name, asked.value, INFO, {}, asked.at_s, float("inf")))
        else:
            found.append(Operation(asked.name, asked.value, outcome.event, outcome.value, asked.at_s, outcome.at_s))
    return found


def read(path: Path) -> Sequence[Event]:
    """The events of a file, of one that is being written those whose line is whole. Raises HistoryError and OSError."""
    events = []
    for number, line in enumerate(path.read_text().split("\n")[:-1], 1):
        try:
            event = Event(**json.loads(line))
        except (ValueError, TypeError) as error:
            raise HistoryError(f"{path}:{number}: {error}") from error
        if event.event not in (INVOKE, *_OUTCOMES):
            raise HistoryError(f"{path}:{number}: {event.event!r} is no event")
        events.append(event)
    return events


class Recorder:
    """Writes a history while it happens; used by many threads."""

    def __init__(self, file: IO[str], *, began: float | None = None, first: int = 0) -> None:
        """`began`, `first`: of a history that goes on, when it began and how many operations it has."""
        self._file = file
        self._lock = threading.Lock()
        self._began = time.monotonic() if began is None else began
        self._operations = first

    def begin(self, name: str, **asked: Any) -> "Pending":
        """An operation begins. It is written before anything is sent."""
        with self._lock:
            self._operations += 1
            number = self._operations
            self._write(number, INVOKE, name, asked)
        return Pending(self, number, name)

    def end(self, number: int, name: str, outcome: str, said: Mapping[str, Any]) -> None:
        """An operation has an outcome."""
        with self._lock:
            self._write(number, outcome, name, said)

    def _write(self, number: int, event: str, name: str, value: Mapping[str, Any]) -> None:
        at_s = round(time.monotonic() - self._began, 6)
        self._file.write(json.dumps(asdict(Event(at_s, number, event, name, value))) + "\n")
        self._file.flush()


@dataclass(frozen=True, slots=True)
class Pending:
    """An operation that has begun."""

    recorder: Recorder
    number: int
    name: str

    def ok(self, **said: Any) -> None:
        """It was acknowledged."""
        self.recorder.end(self.number, self.name, OK, said)

    def fail(self, **said: Any) -> None:
        """It was refused."""
        self.recorder.end(self.number, self.name, FAIL, said)

    def info(self, **said: Any) -> None:
        """Nobody knows."""
        self.recorder.end(self.number, self.name, INFO, said)


@dataclass(frozen=True, slots=True)
class Order:
    """An order at the end of a run."""

    customer: str
    items: Mapping[str, int]
    """Pieces ordered."""
    taken_back: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Books:
    """What the books say when nothing moves any more."""

    stock: Mapping[str, int]
    """Pieces left of each product."""
    orders: Mapping[str, Order]
    """Every order of every customer, by name."""
    placed: Sequence[tuple[str, str]]
    """Outbox rows of placed orders: id of the event, name of the order."""
    events: Sequence[str]
    """Ids of all outbox rows of these orders."""
    audited: Sequence[str]
    """Ids of the events that the audit log holds of these customers, as often as it does."""
    counted: int
    """Orders in the roll-up."""
    mailed: Sequence[str]
    """Ids of the events that confirmations name, as often as one was sent."""
    versions: Mapping[str, int] = field(default_factory=dict)
    """Version of each product's row."""
    cached: Sequence[tuple[str, str, str]] = field(default_factory=list)
    """Node, key and what lies there, of every entry of these products."""
    lists: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """The lists that transactions have appended to."""
    left: Sequence[tuple[str, int]] = field(default_factory=list)
    """Ordering key and number of each event in the order in which the broker got them, where somebody noted it."""

    def write(self, path: Path) -> None:
        """Keep it beside the history."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote."""
        found = json.loads(path.read_text())
        orders = {name: Order(**order) for name, order in found.pop("orders").items()}
        tuples = {name: [tuple(each) for each in found.pop(name)] for name in ("placed", "cached", "left")}
        return cls(orders=orders, **tuples, **found)
