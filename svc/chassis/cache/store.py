"""The nodes, and what is kept on them."""

import random
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import structlog
from google.protobuf.descriptor import MethodDescriptor

from svc.chassis import purity
from svc.chassis.cache.entry import LEASE_S, Codec, Entry, slot_of
from svc.chassis.cache.node import Node
from svc.chassis.cache.ring import choose
from svc.chassis.cache.value import Seal
from svc.chassis.cache.wire import ANSWER_S
from svc.chassis.signed import Signer
from weft_protos import caching

T = TypeVar("T")

_log: Final = structlog.get_logger(__name__)

#: What the values' codes are for; whoever looks at the cache from outside derives the same key.
PURPOSE: Final = "cache value"
# A node that was stopped notices only after a moment how much time has passed.
_SLACK_S: Final = 5.0


class Cache:
    """Thread-safe."""

    def __init__(self, nodes: Sequence[tuple[str, int]], *, key: bytes, answer_s: float = ANSWER_S) -> None:
        """Opens nothing yet. `key`: `Secrets.cache_key()`. `answer_s`: a node that takes longer does not answer."""
        if not nodes:
            raise ValueError("a cache needs at least one node")
        self._nodes = {f"{host}:{port}": _node(host, port, answer_s) for host, port in nodes}
        self._names = tuple(self._nodes)
        self._signer = Signer(key, purpose=PURPOSE)
        self._random = random.Random()
        self._entries: dict[str, Entry[Any]] = {}

    def entry(self, method: MethodDescriptor, codec: Codec[T]) -> Entry[T]:
        """The kept answers of a method. Raises ValueError where its contract does not say that they are kept."""
        said = caching.every().get(method.full_name)
        if said is None:
            raise ValueError(f"{method.full_name} has no `cache` in its contract")
        return self.open(said, codec)

    def open(self, said: caching.Cached, codec: Codec[T]) -> Entry[T]:
        """The same for something that says of itself how it is kept."""
        entry = Entry(self, said, seal=Seal(self._signer, said.schema), codec=codec)
        self._entries[said.method] = entry
        return entry

    def forget(self, methods: Iterable[str], keys: Sequence[str], *, everywhere: bool = False) -> bool:
        """Forget these keys of these methods. Called after the commit that changed what they stand for, never before.

        Never raises: what a node cannot be told now it is told when it answers. Whether all of it is forgotten already.
        `everywhere`: at every node, for a process whose list of nodes is another one had them elsewhere.
        """
        purity.refuse("forgetting in the cache")
        by_node: dict[str, list[str]] = {}
        keep_s = _SLACK_S
        for method in methods:
            entry = self._entries.get(method)
            ttl_s = caching.every()[method].ttl_s if entry is None else entry.ttl_s
            keep_s = max(keep_s, ttl_s + LEASE_S + _SLACK_S)
            for key in keys:
                if entry is not None:
                    entry.forget(key)
                slot = slot_of(method, key)
                for name in self._names if everywhere else (choose(self._names, slot),):
                    by_node.setdefault(name, []).append(slot)
        late = [name for name, slots in by_node.items() if not self._nodes[name].forget(slots, keep_s=keep_s)]
        if late:
            _log.info("cache_forgets_later", nodes=late, keys=len(keys))
        return not late

    def node(self, slot: str) -> Node:
        """The node that has a slot."""
        purity.refuse("a look into the cache")
        return self._nodes[choose(self._names, slot)]

    def chance(self) -> float:
        """A random number in [0, 1)."""
        return self._random.random()

    def ping(self) -> bool:
        """Whether every node answers."""
        return all(node.answers() for node in self._nodes.values())

    def close(self) -> None:
        """Close every connection."""
        for node in self._nodes.values():
            node.close()


def _node(host: str, port: int, answer_s: float) -> Node:
    return Node(f"{host}:{port}", (host, port), answer_s=answer_s)
