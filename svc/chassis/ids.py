"""Identifiers of new things.

Random, so that two instances never agree on one by accident and inserts do not meet in one leaf of an index,
which costs serializable transactions false conflicts.
"""

import uuid


def new_id() -> str:
    """A random UUID in its usual text form."""
    return str(uuid.uuid4())
