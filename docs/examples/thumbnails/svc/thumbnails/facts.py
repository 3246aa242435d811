"""What the database of this service holds, as numbers to be compared with other parts of the mesh.

Printed by `python -m svc.thumbnails facts`; read in one snapshot.
"""

from collections.abc import Mapping

from svc.chassis import outbox
from svc.chassis.database import Transaction
from svc.thumbnails.store import ImageStore


def collect(tx: Transaction) -> Mapping[str, object]:
    """Read the facts."""
    return outbox.facts(tx, service="thumbnails") | ImageStore().counts(tx)
