"""Whether anything happened: what the services' databases hold of calls that took effect, counted in one look.

`effects` is the fixture: import it into a test module. What workers do later is not counted, nor are sessions, which
end by themselves; everything that a call can bring about writes at least one of these rows.
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
}

State = Mapping[str, tuple[object, ...]]


class Effects:
    """Reads what calls have left behind."""

    def __init__(self, databases: Mapping[str, Database]) -> None:
        self._databases = databases

    def now(self) -> State:
        """What there is, by database and kind; two equal states mean that no call took effect between them."""
        found: dict[str, tuple[object, ...]] = {}
        for name, statements in _COUNTED.items():

            def count(tx: Transaction, statements: Mapping[str, str] = statements) -> dict[str, tuple[object, ...]]:
                return {kind: tuple(tx.execute(sa.text(text)).one()) for kind, text in statements.items()}

            counted = self._databases[name].read(count, deadline=Deadline.after(_DEADLINE_S))
            found |= {f"{name}: {kind}": row for kind, row in counted.items()}
        return found


@contextlib.contextmanager
def none_of(effects: Effects) -> Iterator[None]:
    """Whatever is called inside must have no effect."""
    before = effects.now()
    yield
    assert before == effects.now()


@pytest.fixture(scope="module")
def effects(mesh: Mesh) -> Iterator[Effects]:
    """The databases of a mesh."""
    with contextlib.ExitStack() as stack:
        databases = {}
        for name in _COUNTED:
            url = (mesh.secrets / f"database-{name}.url").read_text().strip()
            databases[name] = Database(url, pool_size=1, name="test")
            stack.callback(databases[name].close)
        yield Effects(databases)
