"""Stops what a supervisor that died has left running. Used by the next daemon, and by `weft down` without one."""

import asyncio

from deploy.supervisor.process import stop_foreign
from deploy.supervisor.record import Record


async def stop_orphans(record: Record) -> tuple[str, ...]:
    """Stop every process of an earlier supervisor, in the usual order; their names."""
    orphans = record.orphans()
    for rank in sorted({entry.stop_rank for entry in orphans}):
        await asyncio.gather(
            *(
                stop_foreign(entry.pid, entry.start_time, entry.stop_signal, grace_s=entry.grace_s)
                for entry in orphans
                if entry.stop_rank == rank
            )
        )
    return tuple(entry.name for entry in orphans)
