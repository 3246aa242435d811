"""Which node of the broker leads: the one with the leaders of most queues that are consumed. Each queue elects its own.

Only the nodes themselves know, and asking costs a second of processor time: so they are asked when one of them has come
or gone, and otherwise rarely.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from deploy.supervisor import process
from deploy.supervisor.account import Account
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.probe import HOST
from deploy.supervisor.servers.rabbitmq import Node

log = structlog.get_logger()

CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
TIMEOUT_S = 20.0
LOOK_EVERY_S = 1.0
SETTLE_S = 3.0
"""Queues elect and come to rest for so long after a node has come or gone."""
ASK_EVERY_S = 120.0
ASK_AGAIN_S = 10.0
"""As long as no queue has been declared."""

Alive = Callable[[], Mapping[str, int]]
"""Pids of the nodes that are ready, by name."""


class Leadership:
    """Roles of the nodes of one broker, as of the last time they were asked."""

    def __init__(self, nodes: Sequence[Node], layout: Layout, account: Account | None, *, epmd_port: int) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._layout = layout
        self._account = account
        self._epmd_port = epmd_port
        self._leader = ""

    def role(self, name: str) -> str:
        """`leader` or `member`."""
        return "leader" if name == self._leader or len(self._nodes) == 1 else "member"

    async def keep(self, alive: Alive) -> None:
        """Ask whenever there is reason to, for ever."""
        if len(self._nodes) == 1:
            return
        loop, asked, known = asyncio.get_running_loop(), 0.0, dict[str, int]()
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = dict(alive())
            if self._leader not in now:
                self._leader = ""
            pause_s = ASK_EVERY_S if self._leader else ASK_AGAIN_S
            if not now or (now == known and loop.time() - asked < pause_s):
                continue
            await asyncio.sleep(SETTLE_S)
            with suppress(OSError, TimeoutError):  # a node that has just gone; the next turn asks another one
                self._leader = leader(await self._ask(self._nodes[min(now)]), list(self._nodes.values()))
                asked, known = loop.time(), now
            log.info("broker_leader", name=self._leader)

    async def _ask(self, node: Node) -> str:
        home = self._layout.home(node.name)
        environ = {
            **child_environ(),
            "HOME": str(home),  # the cookie
            "RABBITMQ_NODENAME": node.erlang,
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_CTL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
        }
        child = await asyncio.create_subprocess_exec(
            *process.become(self._account, dies_with_us=True),
            *(CONTROL, "--quiet", "list_queues", "--no-table-headers", "leader", "consumers"),
            env=environ,
            cwd=home,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(TIMEOUT_S):
                told, _ = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise OSError(f"{CONTROL} ended with {child.returncode}")
        return told.decode("utf-8", "replace")


def leader(told: str, nodes: Sequence[Node]) -> str:
    """Name of the node with most leaders in what `list_queues leader consumers` printed; empty: there is no queue."""
    queues = [line.split() for line in told.splitlines()]
    led = Counter(words[0] for words in queues)
    consumed = Counter(words[0] for words in queues if words[1:] > ["0"])
    leading = [node for node in nodes if led[node.erlang]]
    if not leading:
        return ""
    return max(leading, key=lambda node: (consumed[node.erlang], led[node.erlang], node.name)).name
