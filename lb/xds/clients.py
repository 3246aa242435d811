"""What every connected client has made of what it was sent: one place that all streams report to.

The server's sessions write, the control plane's process reads: as metrics for the monitor, and as the status document
that tells publishers who has accepted a bundle, and operators who is behind. A report costs next to nothing; what has
moved is looked at when somebody reads. All methods belong to one event loop.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from lb.status import ClientState, ControlPlaneStatus, Refusal
from lb.xds import metrics
from lb.xds.conversation import Progress
from lb.xds.types import Kind, short
from lb.xds.wire import Node

#: etcd takes values up to 1.5 MB, and what lies under one lease must not fail over a client's many words: half a
#: megabyte at most. Of more clients than this those are told of that have not accepted everything.
CLIENTS_MAX: Final = 500
_REFUSALS_MAX: Final = 3
_PROBLEMS_MAX: Final = 10
_NODE_LENGTH_MAX: Final = 80
_DETAIL_LENGTH_MAX: Final = 200

_Key = tuple[str, str]


class Reporting(Protocol):
    """A stream, as far as it is reported."""

    @property
    def node(self) -> Node:
        """Whose stream it is."""

    @property
    def unsent(self) -> bool:
        """Something has changed that was not compared yet with what the client was sent."""

    @property
    def refusing(self) -> bool:
        """The client has refused something, and nothing newer has taken its place."""

    @property
    def since(self) -> datetime | None:
        """Since when something is under way to it; None: nothing is."""

    def progress(self) -> Progress:
        """What the client has made of what it was sent."""


class Clients:
    """Collects the state of all streams; `on_change` is called after every change, with whether somebody may wait."""

    def __init__(self, instance: str = "", *, on_change: Callable[[bool], None] = lambda soon: None) -> None:
        self._instance = instance
        self._on_change = on_change
        self._streams: dict[_Key, set[Reporting]] = {}
        self._known: set[Reporting] = set()
        self._refusing: set[Reporting] = set()
        self._moved: set[Reporting] = set()
        self._states: dict[_Key, ClientState] = {}
        self._bundle = ""
        self._refused = ""
        self._problems: tuple[str, ...] = ()

    def serving(self, digest: str) -> None:
        """A bundle was taken. To be said before anything is awaited, so that no stream counts as settled under it."""
        self._bundle, self._refused, self._problems = digest, "", ()
        # Whom the bundle says nothing new to has accepted it.
        self._moved |= self._known
        metrics.BUNDLE_REFUSED.set(0)
        self._on_change(True)

    def refused(self, digest: str, problems: Sequence[str]) -> None:
        """The published bundle cannot be served; the one before goes on."""
        self._refused = digest
        self._problems = tuple(problem[:_DETAIL_LENGTH_MAX] for problem in problems[:_PROBLEMS_MAX])
        metrics.BUNDLE_REFUSED.set(1)
        self._on_change(True)

    def report(self, stream: Reporting, *, soon: bool) -> None:
        """A stream has moved on; `soon`: by more than endpoints, which nobody waits for."""
        if stream not in self._known:
            self._known.add(stream)
            self._streams.setdefault(_key(stream), set()).add(stream)
        self._moved.add(stream)
        if stream.refusing != (stream in self._refusing):
            self._refusing ^= {stream}
            self._count(stream.node.kind)
            soon = True
        self._on_change(soon)

    def gone(self, stream: Reporting) -> None:
        """The stream has ended. Nothing happens where it never reported."""
        if stream not in self._known:
            return
        self._known.discard(stream)
        self._moved.add(stream)
        key = _key(stream)
        self._streams[key].discard(stream)
        if not self._streams[key]:
            del self._streams[key]
        if stream in self._refusing:
            self._refusing.discard(stream)
            self._count(stream.node.kind)
        self._on_change(True)

    def status(self) -> ControlPlaneStatus:
        """Everything, by node."""
        for key in set(map(_key, self._moved)):
            streams = self._streams.get(key)
            if streams:
                before = self._states.get(key)
                self._states[key] = _state(key, streams, bundle=self._bundle, before=before.bundle if before else "")
            else:
                self._states.pop(key, None)
        self._moved.clear()
        clients = sorted(self._states.values(), key=_trouble_first)[:CLIENTS_MAX]
        return ControlPlaneStatus(self._instance, self._bundle, self._refused, self._problems, tuple(sorted(clients)))

    def _count(self, kind: Kind) -> None:
        refusing = {each.node.id for each in self._refusing if each.node.kind is kind}
        metrics.REFUSING.labels(kind=kind.value).set(len(refusing))


def _key(stream: Reporting) -> _Key:
    return stream.node.kind.value, stream.node.id


def _state(key: _Key, streams: set[Reporting], *, bundle: str, before: str) -> ClientState:
    """One client, all its streams together. `before`: the last bundle that it has accepted, as far as is known."""
    progress = [each.progress() for each in streams]
    refusals = {
        Refusal(short(nack.type_url), nack.version, nack.detail[:_DETAIL_LENGTH_MAX])
        for each in progress
        for nack in each.refused
    }
    moments = [each.since for each in streams if each.since is not None]
    unsent = any(each.unsent for each in streams)
    waiting = tuple(sorted({short(type_url) for each in progress for type_url in each.waiting}))
    return ClientState(
        node=key[1][:_NODE_LENGTH_MAX],
        kind=key[0],
        streams=len(streams),
        unsent=unsent,
        waiting=waiting,
        refusals=tuple(sorted(refusals)[:_REFUSALS_MAX]),
        agent=next(iter(streams)).node.agent,
        bundle=before if refusals or unsent or waiting else bundle,
        since=min(moments).isoformat(timespec="milliseconds") if moments else "",
    )


def _trouble_first(client: ClientState) -> tuple[bool, bool]:
    return not client.refusals, client.settled
