"""A gateway in a container: its bootstrap is compiled, Envoy is run, and when the container is stopped, clients first
go over to the other gateways, as under the supervisor (`envoy.leave`). Nothing of this is a hot restart.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from deploy.supervisor.config import child_environ
from deploy.supervisor.servers import envoy

#: Envoy has nothing left to do when it is told to end.
END_S: Final = 5.0

log = structlog.get_logger()


async def run(arguments: Sequence[str]) -> int:
    """Be a gateway until SIGTERM; the exit code. `arguments`: those of `python -m gateway bootstrap`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.ship gateway", add_help=False, allow_abbrev=False)
    parser.add_argument("--node", required=True)
    parser.add_argument("--admin-socket", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    known, _ = parser.parse_known_args(arguments)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    compiled = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", "bootstrap", *arguments)
    if code := await compiled.wait():
        return code
    # A socket that a killed Envoy left behind is refused as taken.
    known.admin_socket.unlink(missing_ok=True)
    environ = {**child_environ(), "WEFT_INSTANCE": known.node}
    process = await asyncio.create_subprocess_exec(*envoy.argv(known.node, known.out), env=environ)
    ended, stopped = asyncio.ensure_future(process.wait()), asyncio.ensure_future(stopping.wait())
    await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if ended.done():
        log.error("envoy_ended", code=ended.result())
        return 1
    await _leave(known.admin_socket)
    process.terminate()
    try:
        await asyncio.wait_for(ended, END_S)
    except TimeoutError:
        process.kill()
        await process.wait()
    return 0


async def _leave(admin: Path) -> None:
    try:
        await envoy.leave(admin)
    except (OSError, TimeoutError) as error:
        # Whoever is still there is cut off; waiting for longer would have Envoy killed with all of them.
        log.warning("gateway_not_drained", reason=str(error) or type(error).__name__)
