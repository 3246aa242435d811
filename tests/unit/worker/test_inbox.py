"""What a failed transaction means for the events in it."""

from collections.abc import Callable, Sequence

import pytest
from psycopg import errors
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError

from svc.chassis.context import Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import Aborted, DeadlineExceeded, Unavailable
from worker import inbox
from worker.errors import Outage, Overrun, Permanent, Transient


class FailingDatabase:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def serializable(self, work: Callable[[Transaction], None], *, deadline: Deadline, hot_keys: Sequence[str]) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (Unavailable(), Outage),
        (Unavailable(reason="COMMIT_UNKNOWN"), Outage),
        (Aborted(), Outage),
        (DeadlineExceeded(), Overrun),
        (OperationalError("", {}, errors.InvalidPassword()), Outage),
        (ProgrammingError("", {}, errors.UndefinedTable()), Outage),
        (DataError("", {}, errors.NumericValueOutOfRange()), Permanent),
        (IntegrityError("", {}, errors.UniqueViolation()), IntegrityError),
        (Transient(), Transient),
        (Permanent(), Permanent),
    ],
)
def test_a_failure_is_the_events_or_the_databases(error: Exception, meaning: type[Exception]) -> None:
    with pytest.raises(meaning) as raised:
        inbox.transaction(FailingDatabase(error), lambda tx: None)

    assert meaning is raised.type
