"""Backups of a mesh: what every database holds, in one snapshot of each, and the keys to read it. `weft backup`.

The snapshots are taken in the order of ORDER, within milliseconds of each other; no two databases are in one snapshot.
"""

ORDER = ("email", "audit", "analytics", "orders", "catalog", "identity")
"""Databases, in the order their snapshots are taken: who reacts before who acts, who refers before who is referred to.

So no effect is without its cause, and every product and user that is named is there. What is missing instead is an
effect whose cause is there, and `python -m worker restored` has the event sent again that leads to it."""
