"""A database connection that never waits past a moment set for it.

A server that is stopped, or behind a link that swallows packets, keeps the socket open and says nothing; the server's
own statement timeout does not fire then. `database` sets `until` before each transaction. When it passes, the
connection is closed in the middle of whatever it waited for: nobody knows what the server did with the statement.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg import generators
from psycopg.crdb import CrdbConnection
from psycopg.errors import _WaitTimeout, error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url

# A connection that takes longer is as good as none, whatever its caller's time. libpq knows whole seconds, from two on.
CONNECT_S: Final = 2
# One that was given less has not been found silent: its caller came late.
_FAIR_S: Final = 0.2
# A host that kept somebody waiting is tried after the others for so long.
_LAST_S: Final = 5.0
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


class _Caller(threading.local):
    """Whose connection is being made: the engine hands nothing of that on."""

    until: float | None = None
    """Value of `time.monotonic()` after which there is no use in a connection."""


_CALLER: Final = _Caller()


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing until the connection's time was up; the connection is closed."""


class BoundedConnection(psycopg.Connection[Any]):
    """A PostgreSQL connection."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """The driver's own arguments."""
        super().__init__(*args, **named)
        self.until: float | None = None
        """Value of `time.monotonic()` after which no wait goes on; None while the connection is being made."""
        self._cursors: dict[str, psycopg.Cursor[Any]] = {}

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> Any:
        """Connect to one host; the driver, which comes by every tenth of a second, is told when the time is up."""
        steps, until = super()._connect_gen(conninfo), _CALLER.until
        try:
            awaited = next(steps)
            while True:
                ready = yield awaited
                if until is not None and not ready and time.monotonic() >= until:
                    raise psycopg.errors.ConnectionTimeout("the database did not take the connection in time")
                awaited = steps.send(ready)
        except StopIteration as made:
            return made.value

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Drive one exchange with the server; the driver's only way to wait."""
        if timeout is not None:
            return super().wait(gen, interval, timeout)
        left_s = None if self.until is None else max(0.0, self.until - time.monotonic())
        try:
            return super().wait(gen, interval, left_s)
        except _WaitTimeout:
            self.close()
            raise NoAnswerError("the database did not answer in time") from None

    def exchange(self, statements: str) -> Sequence[PGresult]:
        """Have the server run statements without parameters, all in one message; their results, in order.

        Raises the error of the one that failed. A cursor could do the same at three times the cost, for what it would
        find out about each result; these are BEGIN, COMMIT and settings, and every transaction has them.
        """
        with self.lock:
            self.pgconn.send_query(statements.encode())
            results: Sequence[PGresult] = self.wait(generators.execute(self.pgconn))
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise error_from_result(result, self.info.encoding)
        return results

    def rows(self, statement: str, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Run one prepared statement, a constant of ours, and fetch what it returns.

        Its cursor is kept: one that gets the same statement again knows already how to write its parameters.
        """
        cursor = self._cursors.get(statement)
        if cursor is None:
            cursor = self._cursors[statement] = self.cursor()
        # The driver looks through every list for the type of its items, which the statement's casts tell already.
        written = {name: _array(value) if type(value) is list else value for name, value in parameters.items()}
        return cursor.execute(statement, written, prepare=True).fetchall()


class BoundedCrdbConnection(BoundedConnection, CrdbConnection[Any]):
    """A CockroachDB connection."""


def _array(items: list[Any]) -> str:
    """A list of texts or numbers as the text form of an array (PostgreSQL, 8.15.6)."""
    return "{" + ",".join([_quoted(item) if type(item) is str else str(item) for item in items]) + "}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


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
            "connect_timeout": CONNECT_S,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            **planner,
        },
    )

    hosts = _Hosts(BoundedCrdbConnection if engine.dialect.name == "cockroachdb" else BoundedConnection)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, parameters: dict[str, Any]) -> Any:
        return hosts.connect(args, parameters)

    return engine


def connect(engine: Engine, within_s: float) -> Connection:
    """A connection of the engine's. Raises DBAPIError, which wraps a NoAnswerError where the time is up."""
    _CALLER.until = time.monotonic() + within_s
    try:
        return engine.connect()
    finally:
        _CALLER.until = None


#: Its name and port; empty is libpq's own.
_Host = tuple[str, str]


class _Hosts:
    """Where an engine finds its server: each host gets a share of the caller's time. Thread-safe."""

    def __init__(self, kind: type[BoundedConnection]) -> None:
        self._kind = kind
        self._silent_until: dict[_Host, float] = {}

    def connect(self, args: Any, parameters: dict[str, Any]) -> BoundedConnection:
        """Try the hosts in turn, those that hung last: by then the others may have said that they do not lead."""
        now, caller = time.monotonic(), _CALLER.until
        until = now + _SETTLE_S if caller is None else caller
        hosts = sorted(_hosts(parameters), key=lambda host: self._silent_until.get(host, 0.0) > now)
        failure: psycopg.Error | None = None
        try:
            for tried, host in enumerate(hosts):
                now = time.monotonic()
                share_s = min(CONNECT_S, (until - now) / (len(hosts) - tried))
                _CALLER.until = now + share_s
                try:
                    connection = self._kind.connect(*args, **{**parameters, "host": host[0], "port": host[1]})
                except psycopg.Error as error:
                    if isinstance(error, psycopg.errors.ConnectionTimeout) and share_s >= _FAIR_S:
                        # That one of them hangs matters more than that another does not lead.
                        self._silent_until[host] = time.monotonic() + _LAST_S
                        failure = NoAnswerError(str(error))
                    failure = failure or error
                else:
                    connection.until = min(until, time.monotonic() + _SETTLE_S)
                    return connection
        finally:
            _CALLER.until = caller
        assert failure is not None, "there is a host"
        raise failure


def _hosts(parameters: dict[str, Any]) -> Sequence[_Host]:
    """The hosts of libpq's parameters, each by itself."""
    names = str(parameters.get("host", "")).split(",")
    ports = str(parameters.get("port", "")).split(",")
    if len(ports) < len(names):
        ports *= len(names)
    return list(zip(names, ports, strict=False))
