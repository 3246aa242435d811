"""Whether anything happened: what the services' databases hold of calls that took effect, counted in one look.

`effects` is the fixture: import it into a test module. Everything that a call can bring about writes at least one of
these rows, or touches a process that is looked at. What workers do later is not counted, nor are delegated sessions by
themselves, which are forgotten minutes after they have ended: each has its event. Signing keys have one, too.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

import pytest
import sqlalchemy as sa

from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction

_DEADLINE_S: Final = 60.0
_COUNTED: Final[Mapping[str, Mapping[str, str]]] = {
    "identity": {
        "users": "SELECT count(*), max(update_time) FROM users",
        "sessions": "SELECT count(*), max(revoke_time) FROM sessions WHERE actor IS NULL",
        "refresh tokens": "SELECT count(*), count(use_time) FROM refresh_tokens",
        "events": "SELECT count(*) FROM outbox",
    },
    "catalog": {
        "products": "SELECT count(*), max(update_time) FROM products",
        "events": "SELECT count(*) FROM outbox",
    },
    "orders": {
        "orders": "SELECT count(*), sum(revision), sum(total_minor) FROM orders",
        "stock": "SELECT count(*), sum(quantity) FROM stock",
        "movements": "SELECT count(*), sum(difference) FROM stock_movement",
        "answers kept for repetitions": "SELECT count(*) FROM idempotency",
        "events": "SELECT count(*) FROM outbox",
    },
    "analytics": {
        # Beside these, rows of reports are their workers' to write.
        "reports": "SELECT count(*), count(*) FILTER (WHERE state = 'cancelled') FROM reports",
        "answers kept for repetitions": "SELECT count(*) FROM idempotency",
        "events": "SELECT count(*) FROM outbox",
    },
}
#: The part whose processes the operations' methods are asked to change: nobody's load does, and nobody waits for it.
WATCHED: Final = "audit"

State = Mapping[str, tuple[object, ...]]


class Effects:
    """Reads what calls have left behind."""

    def __init__(self, mesh: Mesh, databases: Mapping[str, Database]) -> None:
        self._mesh = mesh
        self._databases = databases

    def now(self) -> State:
        """What there is, by database and kind; two equal states mean that no call took effect between them."""
        found: dict[str, tuple[object, ...]] = dict(self._processes())
        for name, statements in _COUNTED.items():

            def count(tx: Transaction, statements: Mapping[str, str] = statements) -> dict[str, tuple[object, ...]]:
                return {kind: tuple(tx.execute(sa.text(text)).one()) for kind, text in statements.items()}

            counted = self._databases[name].read(count, deadline=Deadline.after(_DEADLINE_S))
            found |= {f"{name}: {kind}": row for kind, row in counted.items()}
        return found

    def _processes(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        status = self._mesh.status()
        yield f"mesh: {WATCHED}", (status.sizes[WATCHED].desired, WATCHED in status.rolling)
        for process in status.processes:
            if process.service == WATCHED:
                yield f"mesh: {process.name}", (process.pid, process.restarts)


@contextlib.contextmanager
def none_of(effects: Effects) -> Iterator[None]:
    """Whatever is called inside must have no effect."""
    before = effects.now()
    yield
    assert before == effects.now()


@pytest.fixture(scope="module")
def effects(mesh: Mesh) -> Iterator[Effects]:
    """The databases of a mesh, and its processes once all are back that an earlier test has hurt."""
    mesh.wait_ready()
    with contextlib.ExitStack() as stack:
        databases = {}
        for name in _COUNTED:
            url = (mesh.secrets / f"database-{name}.url").read_text().strip()
            databases[name] = Database(url, pool_size=1, name="test")
            stack.callback(databases[name].close)
        yield Effects(mesh, databases)
