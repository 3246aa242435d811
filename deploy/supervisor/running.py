"""Being the daemon of a data directory: its log, its loop. Called by `deploy.supervisor`."""

import asyncio
import random
import sys
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from deploy.supervisor import process
from deploy.supervisor.daemon import Daemon
from deploy.supervisor.desired import Desired
from deploy.supervisor.layout import Layout
from weft_protos import redaction


def run(layout: Layout, desired: Desired, *, takeovers: int) -> int:
    """Be the daemon of a data directory until it is told to stop; the exit code. The caller holds the lock."""
    process.forbid_core_files()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction.clean,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )

    async def live() -> int:
        rng, own = random.Random(), replace(layout, ha=desired.ha)
        return await Daemon(own, desired, now=lambda: datetime.now(UTC), rng=rng, takeovers=takeovers).run()

    return asyncio.run(live())
