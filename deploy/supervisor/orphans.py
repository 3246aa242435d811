"""Stops what a supervisor that died has left running and nobody wants. Used by the next one, and by `weft down`.

Beside the record there is a second witness: whoever writes into one of the mesh's log files was started for it. So a
process that was spawned in the moment before its supervisor died, and never recorded, is found, and so is the server
that a Patroni left when it died.
"""

import asyncio
import signal

from deploy.supervisor import procfs
from deploy.supervisor.layout import Layout
from deploy.supervisor.process import stop_foreign
from deploy.supervisor.record import STANDBY, Record

GRACE_S = 10.0
GENERATIONS_MAX = 4


async def stop_strays(layout: Layout, record: Record) -> tuple[str, ...]:
    """Stop what runs for the mesh without being recorded; the names of the logs it writes."""
    known = {layout.log_of(name) for name in ("supervisor", *record.names())}
    names: list[str] = []
    # Again until there are none: what one of them had started is left behind when it ends.
    for _ in range(GENERATIONS_MAX):
        found = {pid: path for pid, path in procfs.writing_to(layout.log).items() if path not in known}
        starts = {pid: start for pid in found if (start := procfs.start_time(pid)) is not None}
        await asyncio.gather(
            *(stop_foreign(pid, start, signal.SIGTERM, grace_s=GRACE_S) for pid, start in starts.items())
        )
        names.extend(found[pid].stem for pid in starts)
        if not starts:
            break
    return tuple(names)


async def stop_survivors(record: Record, *, wanted: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Stop every process of an earlier supervisor but those `wanted`, in the usual order; their names."""
    left = [entry for entry in record.survivors() if entry.name not in wanted]
    for rank in sorted({entry.stop_rank for entry in left}):
        entries = [entry for entry in left if entry.stop_rank == rank]
        await asyncio.gather(
            *(stop_foreign(entry.pid, entry.start_time, entry.stop_signal, grace_s=entry.grace_s) for entry in entries)
        )
    for entry in left:
        record.remove(entry.name)
    return tuple(entry.name for entry in left if entry.name != STANDBY)


async def stop_everything(layout: Layout, record: Record) -> tuple[str, ...]:
    """Stop all that runs for a mesh that has no supervisor; the caller holds the lock, so that nobody takes over."""
    return (*await stop_survivors(record), *await stop_strays(layout, record))
