"""What every connected client has made of what it was sent: one place that all streams report to.

The server's streams write, the control plane's process reads: as metrics for the monitor, and as the status document
that tells publishers who has accepted a bundle. All methods belong to one event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lb.status import ClientState, ControlPlaneStatus, Refusal
from lb.xds import metrics
from lb.xds.stream import Progress
from lb.xds.types import Kind, short
from lb.xds.wire import Node

#: etcd takes values up to 1.5 MB, and what lies under one lease must not fail over a client's many words: half a
#: megabyte at most. Of more clients than this those are told of that have not accepted everything.
CLIENTS_MAX: Final = 500
_REFUSALS_MAX: Final = 3
_PROBLEMS_MAX: Final = 10
_NODE_LENGTH_MAX: Final = 80
_DETAIL_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class _Stream:
    node: Node
    unsent: bool
    progress: Progress


class Clients:
    """Collects the state of all streams; `on_change` is called after every change."""

    def __init__(self, instance: str = "", *, on_change: Callable[[], None] = lambda: None) -> None:
        self._instance = instance
        self._on_change = on_change
        self._streams: dict[object, _Stream] = {}
        self._bundle = ""
        self._refused = ""
        self._problems: tuple[str, ...] = ()

    def serving(self, digest: str) -> None:
        """A bundle was taken. To be said before anything is awaited, so that no stream counts as settled under it."""
        self._bundle, self._refused, self._problems = digest, "", ()
        metrics.BUNDLE_REFUSED.set(0)
        self._on_change()

    def refused(self, digest: str, problems: Sequence[str]) -> None:
        """The published bundle cannot be served; the one before goes on."""
        self._refused = digest
        self._problems = tuple(problem[:_DETAIL_LENGTH_MAX] for problem in problems[:_PROBLEMS_MAX])
        metrics.BUNDLE_REFUSED.set(1)
        self._on_change()

    def report(self, stream: object, node: Node, *, unsent: bool, progress: Progress) -> None:
        """Where one stream stands; `stream` tells streams of one node apart."""
        old, new = self._streams.get(stream), _Stream(node, unsent, progress)
        if old == new:
            return
        self._streams[stream] = new
        if bool(progress.refused) != bool(old and old.progress.refused):
            self._count(node.kind)
        self._on_change()

    def gone(self, stream: object) -> None:
        """The stream has ended. Nothing happens where it never reported."""
        ended = self._streams.pop(stream, None)
        if ended is not None:
            if ended.progress.refused:
                self._count(ended.node.kind)
            self._on_change()

    def status(self) -> ControlPlaneStatus:
        """Everything, by node."""
        streams: dict[tuple[str, str], list[_Stream]] = {}
        for stream in self._streams.values():
            streams.setdefault((stream.node.kind.value, stream.node.id), []).append(stream)
        clients = sorted((_state(*key, found) for key, found in streams.items()), key=_trouble_first)[:CLIENTS_MAX]
        return ControlPlaneStatus(self._instance, self._bundle, self._refused, self._problems, tuple(sorted(clients)))

    def _count(self, kind: Kind) -> None:
        refusing = {each.node.id for each in self._streams.values() if each.node.kind is kind and each.progress.refused}
        metrics.REFUSING.labels(kind=kind.value).set(len(refusing))


def _state(kind: str, node: str, streams: Sequence[_Stream]) -> ClientState:
    refusals = {
        Refusal(short(nack.type_url), nack.version, nack.detail[:_DETAIL_LENGTH_MAX])
        for each in streams
        for nack in each.progress.refused
    }
    return ClientState(
        node=node[:_NODE_LENGTH_MAX],
        kind=kind,
        streams=len(streams),
        unsent=any(each.unsent for each in streams),
        waiting=tuple(sorted({short(type_url) for each in streams for type_url in each.progress.waiting})),
        refusals=tuple(sorted(refusals)[:_REFUSALS_MAX]),
    )


def _trouble_first(client: ClientState) -> tuple[bool, bool]:
    return not client.refusals, client.settled
