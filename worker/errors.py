"""Why an event could not take effect; the type says what is to become of it.

    Permanent            the event itself is at fault: no repetition can help it
    Transient            this event may succeed later, others are not affected
      Early              one before it has not taken effect yet: no attempt is counted
      Outage             something that every event needs is away: nobody's attempt is counted, work waits
        Overrun          the time was over before the work was; less work at once may fit into it
        Unreadable       one file of the archive; others are not affected

Raised by decoding, by handlers and by the doors to broker, database and SMTP; `worker.retry` turns the first two into
outcomes, the loops wait an outage out.
"""

# ruff: noqa: N818 - they read as the answer they ask for: `raise Transient(...)`.

from __future__ import annotations


class Permanent(Exception):
    """The event can never be handled; the text becomes the reason at its dead letter."""


class Transient(Exception):
    """The event cannot be handled yet."""


class Early(Transient):
    """Of these events each has one before it that has not taken effect yet; without them the others can."""

    def __init__(self, event_ids: frozenset[str]) -> None:
        super().__init__("one before it has not taken effect")
        self.event_ids = event_ids


class Outage(Transient):
    """Broker, database or SMTP server cannot be used at the moment."""


class Unreadable(Outage):
    """A file of the archive is damaged or gone. The message names it."""

    def __init__(self, file: str, file_id: str, why: Exception) -> None:
        """`file`: where it lies."""
        super().__init__(f"archive: {file} cannot be read: {str(why).partition(chr(10))[0] or type(why).__name__}")
        self.file_id = file_id


class Overrun(Outage):
    """The database did not finish in time: it is slow, or the batch is too much for one transaction."""
