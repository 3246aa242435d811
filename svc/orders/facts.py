"""What the database of this service holds, as numbers to be compared with other parts of the mesh.

Printed by `python -m svc.orders facts`. Everything is read in one snapshot, and conservation is computed where the
rows are: for each product, what movements put in = what is on hand + what stands in orders.
"""

from collections.abc import Mapping

from svc.chassis import outbox
from svc.chassis.database import Transaction
from svc.orders import statements


def collect(tx: Transaction) -> Mapping[str, object]:
    """Read the facts."""
    balance = tx.exec_driver_sql(statements.CONSERVATION).one()
    return outbox.facts(tx, service="orders") | {
        "orders": int(tx.exec_driver_sql(statements.ORDER_COUNT).scalar_one()),
        "stock": {
            "products": balance.products,
            "on_hand": balance.on_hand,
            "movements": balance.movements,
            "ordered_net": balance.ordered_net,
            "mismatched": list(balance.mismatched),
        },
    }
