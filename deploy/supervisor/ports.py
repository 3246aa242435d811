"""Which port each part listens on: bind-tested, and kept over restarts so that an instance keeps its address.

Everything is on 127.0.0.1. Fixed ports (the gateways') that are taken are an error that names the owner;
any other port that is taken is replaced by the next free one.
"""

import json
import random
import socket
from collections.abc import Callable, Collection
from pathlib import Path

from deploy.supervisor import procfs
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.probe import HOST

BLOCK = 1000
"""Ports from the base on that may be given away."""
FREE_FIRST, FREE_LAST = 20000, 32000
"""Where free mode picks: outside the ephemeral range, whose ports outgoing connections take at any moment."""


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now. Not fooled by TIME_WAIT, nor by a SO_REUSEPORT listener."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


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
        """`rng` switches to free mode: no block, any free port. `kept`: ports that the mesh's own processes have."""
        self._path = path
        self._base = base
        self._rng = rng
        self._free = is_free
        self._kept = frozenset(kept)
        self._stored: dict[str, int] = self._load()
        self._given: dict[str, int] = {}

    def fixed(self, name: str, port: int, *, variable: str) -> int:
        """Give `name` exactly `port`. Raises ConfigError when it is taken."""
        if name not in self._given:
            if not self._is_usable(port):
                owner = procfs.listener_name(port)
                raise ConfigError(f"port {port} is taken by {owner}; stop that, or set {variable} to another port")
            self._given[name] = port
        return port

    def get(self, name: str) -> int:
        """The port of `name`. Raises ConfigError when no port is left."""
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
        """Keep what was given for the next start; names not asked for this time keep theirs as well."""
        self._path.write_text(json.dumps({**self._stored, **self._given}, indent=1, sort_keys=True))

    def _load(self) -> dict[str, int]:
        try:
            stored = json.loads(self._path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return {str(name): int(port) for name, port in stored.items()}

    def _choose(self) -> int:
        taken = {*self._given.values(), *self._stored.values()}
        candidates = list(range(self._base, min(self._base + BLOCK, 65536)))
        if self._rng is not None:
            candidates = self._rng.sample(range(FREE_FIRST, FREE_LAST), k=BLOCK)
        for port in candidates:
            if port not in taken and port not in self._kept and self._free(port):
                return port
        raise ConfigError(f"no port is free from {self._base} on; set WEFT_PORT_BASE to another block")
