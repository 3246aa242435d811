"""Which port each part listens on: bind-tested, and kept over restarts so that an instance keeps its address.

Everything is on 127.0.0.1. Fixed ports (the gateways') that are taken are an error that names the owner;
any other port that is taken is replaced by the next free one.
"""

import json
import random
import socket
from collections.abc import Callable, Collection
from pathlib import Path

import structlog

from deploy.supervisor import durable, procfs
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.probe import HOST

log = structlog.get_logger()

BLOCK = 1000
"""Ports from the base on that may be given away."""
FREE_FIRST, FREE_LAST = 20000, 32000
"""Where free mode picks: outside the ephemeral range, whose ports outgoing connections take at any moment."""
FREE_BLOCK = 400
"""Ports of one mesh in free mode; two that start at the same moment would else be given the same one."""
CLAIM = "ports"
"""Name of a block's first port. Whoever listens on it has the block; no request is ever answered there."""


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now. Not fooled by TIME_WAIT, nor by a SO_REUSEPORT listener."""
    listener = _listen(port)
    if listener is None:
        return False
    listener.close()
    return True


def _listen(port: int) -> socket.socket | None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


class Ports:
    """Gives each name its port; the same name always gets the same one."""

    def __init__(
        self,
        path: Path,
        *,
        base: int,
        rng: random.Random | None = None,
        is_free: Callable[[int], bool] = is_free,
        kept: Collection[int] = (),
    ) -> None:
        """`rng` switches to free mode: a block nobody else has. `kept`: ports that the mesh's own processes have.

        Raises ConfigError where there are such processes and nobody knows any more which ports are whose.
        """
        self._path = path
        self._base = base
        self._rng = rng
        self._free = is_free
        self._kept = frozenset(kept)
        self._stored: dict[str, int] = self._load()
        """What names had that were not asked for, the oldest first."""
        self._given: dict[str, int] = {}
        self._asked: set[str] = set()
        self._claim: socket.socket | None = None

    def close(self) -> None:
        """Give the block back; the ports themselves are whoever's listens there."""
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def begin(self) -> None:
        """From now on names are asked for another time, for another stack of the same mesh."""
        self._asked.clear()

    def asked(self) -> frozenset[str]:
        """The names that were asked for since then."""
        return frozenset(self._asked)

    def settle(self, names: Collection[str]) -> None:
        """Nothing runs but what has these names: others keep their ports for as long as there are more."""
        gone = {name: port for name, port in self._given.items() if name not in names and name != CLAIM}
        self._given = {name: port for name, port in self._given.items() if name not in gone}
        self._stored = {**{name: port for name, port in self._stored.items() if name not in gone}, **gone}
        self._kept = frozenset()  # of whom that was is among the given ones, or gone

    def fixed(self, name: str, port: int, *, variable: str) -> int:
        """Give `name` exactly `port`. Raises ConfigError when it is taken."""
        self._asked.add(name)
        if name not in self._given:
            if not self._is_usable(port):
                owner = procfs.listener_name(port)
                raise ConfigError(f"port {port} is taken by {owner}; stop that, or set {variable} to another port")
            self._given[name] = port
        return port

    def get(self, name: str) -> int:
        """The port of `name`. Raises ConfigError when no port is left."""
        self._asked.add(name)
        if name in self._given:
            return self._given[name]
        port = self._stored.get(name)
        if port is None or port in self._given.values() or not self._is_usable(port):
            port = self._choose()
        self._given[name] = port
        return port

    def _is_usable(self, port: int) -> bool:
        return port in self._kept or self._free(port)

    def save(self) -> None:
        """Keep what was given for the next start; names not asked for this time keep theirs as well. Raises OSError."""
        unused = {name: port for name, port in self._stored.items() if name not in self._given}
        given = sorted(self._given.items(), key=lambda item: item[0] in self._asked)
        durable.write(self._path, json.dumps({**unused, **dict(given)}, indent=1))

    def _load(self) -> dict[str, int]:
        try:
            stored = json.loads(self._path.read_text())
            return {str(name): int(port) for name, port in stored.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            if self._kept:
                # With other ports every part would be another one, and all that runs would be stopped at once.
                raise ConfigError(
                    f"{self._path} cannot be read ({error}), and it says where the processes listen that still run; "
                    "put it back, or `weft down` and start anew"
                ) from error
            if not isinstance(error, FileNotFoundError):
                log.warning("ports_unreadable", path=str(self._path), reason=str(error))
            return {}

    def _choose(self) -> int:
        block = range(self._base, min(self._base + BLOCK, 65536)) if self._rng is None else self._block(self._rng)
        taken = {*self._given.values(), *self._stored.values()}
        for port in block:
            if port not in taken and self._may_change_hands(port):
                return port
        # Lanes have other names each time: without this, those of last month would have all there are.
        for name, port in self._stored.items():
            if name not in self._given and port in block and self._may_change_hands(port):
                del self._stored[name]
                return port
        raise ConfigError(f"no port is free from {self._base} on; set WEFT_PORT_BASE to another block")

    def _may_change_hands(self, port: int) -> bool:
        return port not in self._given.values() and port not in self._kept and self._free(port)

    def _block(self, rng: random.Random) -> range:
        """The block of free mode: the one of the last start, or any that nobody has."""
        if self._claim is None:
            blocks = range(FREE_FIRST, FREE_LAST, FREE_BLOCK)
            for first in (*(b for b in blocks if b == self._stored.get(CLAIM)), *rng.sample(blocks, k=len(blocks))):
                self._claim = _listen(first)
                if self._claim is not None:
                    self._given[CLAIM] = first
                    break
            else:
                raise ConfigError(f"other meshes have all ports from {FREE_FIRST} to {FREE_LAST - 1}; stop one of them")
        first = self._given[CLAIM]
        return range(first + 1, first + FREE_BLOCK)
