"""A database connection that never waits past a moment set for it.

A server that is stopped, or behind a link that swallows packets, keeps the socket open and says nothing; the server's
own statement timeout does not fire then. `database` sets `until` before each transaction. When it passes, the
connection is closed in the middle of whatever it waited for: nobody knows what the server did with the statement.
"""

import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg.crdb import CrdbConnection
from psycopg.errors import _WaitTimeout
from sqlalchemy import URL, Engine, create_engine, event, make_url

R = TypeVar("R")

# libpq's smallest; a connection that takes longer is as good as none.
_CONNECT_S: Final = 2
# PostgreSQL reads a small table from end to end although it has the index, and marks all of it as read: then every two
# serializable transactions conflict, whatever rows they touch. Where no index fits, it still reads the table; the cost
# it then believes in would set off its compiler, which takes longer than our statements.
_PLANNER: Final = "-c enable_seqscan=off -c jit=off"
# The dialect asks a few questions on a pool's first connection.
_SETTLE_S: Final = 5.0

_DRIVERS: Final = {
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "cockroachdb": "cockroachdb+psycopg",
    "cockroachdb+psycopg": "cockroachdb+psycopg",
}


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing until the connection's time was up; the connection is closed."""


class _Bounded:
    until: float | None = None
    """Value of `time.monotonic()` after which no wait goes on; None while the connection is being made."""


def _bounded_wait(
    connection: "BoundedConnection | BoundedCrdbConnection",
    wait: Callable[..., R],
    gen: Any,
    interval: float,
) -> R:
    left_s = None if connection.until is None else max(0.0, connection.until - time.monotonic())
    try:
        return wait(gen, interval, left_s)
    except _WaitTimeout:
        connection.close()
        raise NoAnswerError("the database did not answer in time") from None


class BoundedConnection(_Bounded, psycopg.Connection[Any]):
    """A PostgreSQL connection."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Drive one exchange with the server; the driver's only way to wait."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        return _bounded_wait(self, super().wait, gen, interval)


class BoundedCrdbConnection(_Bounded, CrdbConnection[Any]):
    """A CockroachDB connection."""

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Drive one exchange with the server; the driver's only way to wait."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        return _bounded_wait(self, super().wait, gen, interval)


def parse_url(url: str) -> URL:
    """The URL with the one driver that is used for its database. Raises ValueError for another database."""
    parsed = make_url(url)
    driver = _DRIVERS.get(parsed.drivername)
    if driver is None:
        raise ValueError(f"no database of {parsed.drivername!r}: postgresql+psycopg or cockroachdb")
    return parsed.set(drivername=driver)


def open_engine(url: str, *, pool_size: int, name: str) -> Engine:
    """An engine whose connections are bounded. It connects when first used.

    Its connections are in driver-level autocommit: `database` writes BEGIN and COMMIT itself, so that isolation,
    timeouts and BEGIN are one message. Whoever uses the engine otherwise has no transaction.
    """
    parsed = parse_url(url)
    planner = {} if parsed.get_backend_name() == "cockroachdb" else {"options": _PLANNER}
    engine = create_engine(
        parsed,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        # `database` leaves nothing open on a connection that it gives back, and drops one that it cannot clean.
        pool_reset_on_return=None,
        hide_parameters=True,
        # Nobody stores hstore; the look-up of its type would cost each pool a transaction.
        use_native_hstore=False,
        connect_args={
            "application_name": name,
            "connect_timeout": _CONNECT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **planner,
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> Any:
        kind = BoundedCrdbConnection if engine.dialect.name == "cockroachdb" else BoundedConnection
        connection = kind.connect(*args, **parameters)
        connection.until = time.monotonic() + _SETTLE_S
        return connection

    return engine
