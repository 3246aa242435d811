"""How far a database has come, as one number that grows: PostgreSQL's timeline and LSN, CockroachDB's timestamp in
nanoseconds.

A snapshot that begins when a server is at a position or beyond it holds every commit up to that position. A fail-over
begins a new timeline, maybe before the place that some standby has reached on the old one: so the timeline counts
first, and such a standby is behind whatever was written since, however far its LSN. Who is on a later timeline has
passed the place where it began, and holds all that was not lost there.
"""

from typing import Final

_LSN_BITS: Final = 64
_POSTGRES: Final = "SELECT left(pg_walfile_name(lsn), 8) || '/' || lsn FROM pg_current_wal_flush_lsn() AS lsn"
_COCKROACH: Final = "SELECT cluster_logical_timestamp()::text"

#: Asked of a standby. No row's value where it is none: after a fail-over it may be the leader, or none of this cluster.
#: The timeline is that of its last restart point, the only one it tells everybody: it may have been on a newer one for
#: minutes.
REPLAYED: Final = (
    "SELECT CASE WHEN pg_is_in_recovery() THEN "
    "to_hex((pg_control_recovery()).min_recovery_end_timeline) || '/' || pg_last_wal_replay_lsn() END::text"
)


def committed(dialect: str) -> str:
    """Asks the leader for a position that holds every commit it has acknowledged so far."""
    return _COCKROACH if dialect == "cockroachdb" else _POSTGRES


def parse(text: str) -> int:
    """The number of what a server said: `2/16/B374D848`, or `1700000000000000000.0000000002`, rounded up."""
    timeline, separator, lsn = text.partition("/")
    if separator:
        high, _, low = lsn.partition("/")
        return (int(timeline, 16) << _LSN_BITS) + (int(high, 16) << 32) + int(low, 16)
    whole, _, fraction = text.partition(".")
    return int(whole) + (1 if fraction.strip("0") else 0)


def timeline(position: int) -> int:
    """Which of the timelines it is on; 0: it was not noted, or there are none."""
    return position >> _LSN_BITS
