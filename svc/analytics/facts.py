"""What the database of this service holds, as numbers to be compared with other parts of the mesh.

Printed by `python -m svc.analytics facts`, all of it read in one snapshot.
"""

from collections.abc import Mapping

from svc.analytics.store import Store
from svc.chassis import outbox
from svc.chassis.database import Transaction


def collect(tx: Transaction) -> Mapping[str, object]:
    """Read the facts."""
    orders, cancellations = Store().totals(tx)
    return outbox.facts(tx, service="analytics") | {"orders": orders, "cancellations": cancellations}
