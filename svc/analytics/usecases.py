"""What analytics answers, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. The roll-up is written by a worker alone: nothing here
changes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from svc.analytics.model import DailySales, Period
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction

T = TypeVar("T")


class Reads(Protocol):
    """Reads from one snapshot."""

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run `work` in a read-only transaction, as new as the session asks."""
        ...


class SalesStore(Protocol):
    """Keeps the roll-up."""

    def sales(self, tx: Transaction, period: Period) -> Sequence[DailySales]:
        """The days of a period that had sales, the earliest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    reads: Reads
    store: SalesStore


def get_sales(ports: Ports, period: Period, *, call: CallContext) -> Sequence[DailySales]:
    """Read the sales of a period, the earliest day first."""
    return ports.reads.read(lambda tx: ports.store.sales(tx, period), deadline=call.deadline, session=call.session)
