"""The wall clock, handed to whoever needs it.

Wall time is for display, for tokens and for the moment an event happened. Timeouts, leases and lifetimes use
the monotonic clock (`context.Deadline`).
"""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment, in UTC."""
        return datetime.now(UTC)
