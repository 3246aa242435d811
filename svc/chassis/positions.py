"""How far a database has come, as one number that grows: PostgreSQL's LSN, CockroachDB's timestamp in nanoseconds.

A snapshot that begins when a server is at a position or beyond it holds every commit up to that position.
"""

from typing import Final

_POSTGRES: Final = "SELECT pg_current_wal_flush_lsn()::text"
_COCKROACH: Final = "SELECT cluster_logical_timestamp()::text"

#: Asked of a standby. No row's value where it is none: after a fail-over it may be the leader, or none of this cluster.
REPLAYED: Final = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END::text"


def committed(dialect: str) -> str:
    """Asks the leader for a position that holds every commit it has acknowledged so far."""
    return _COCKROACH if dialect == "cockroachdb" else _POSTGRES


def parse(text: str) -> int:
    """The number of what a server said: `16/B374D848`, or `1700000000000000000.0000000002`, rounded up."""
    high, separator, low = text.partition("/")
    if separator:
        return (int(high, 16) << 32) + int(low, 16)
    whole, _, fraction = text.partition(".")
    return int(whole) + (1 if fraction.strip("0") else 0)
