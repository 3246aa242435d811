"""The protocol of one xDS stream, without I/O: state of the world, aggregated (ADS).

`receive` takes a request into account, `due` says what has to be sent given a snapshot. Both are level-triggered:
whatever has happened in between, `due` sends the difference between what the client was sent and what it should have,
and nothing twice. The server calls `due` after every request and after every new snapshot.

Rules, after the xDS protocol document: a request whose nonce is not that of the last response of its type is stale and
ignored; an acknowledged or refused version is not sent again; no names in the first request of a whole type (CDS, LDS)
means all of them, no names later means none; additions go out before what refers to them, removals of clusters last.
A cluster and its endpoints' resource have one name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lb.errors import ProtocolError
from lb.xds.snapshot import Resource, Snapshot
from lb.xds.types import CDS, EDS, ORDER, WHOLE

#: More names than any client of ours has; a stream that asks for more is broken or hostile.
NAMES_MAX: Final = 4096
_WILDCARD: Final = "*"


@dataclass(frozen=True, slots=True)
class Request:
    """What of a DiscoveryRequest matters to the protocol."""

    type_url: str
    version: str = ""
    nonce: str = ""
    names: tuple[str, ...] = ()
    error: str | None = None
    """Why the last response was refused; None where it was not."""


@dataclass(frozen=True, slots=True)
class Response:
    """What becomes a DiscoveryResponse."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Nack:
    """A client refused a response; it keeps what it had."""

    type_url: str
    version: str
    detail: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What the client has made of what it was sent."""

    waiting: tuple[str, ...] = ()
    """Types whose last response it has neither accepted nor refused."""
    refused: tuple[Nack, ...] = ()
    """Last responses that it refused."""


@dataclass(slots=True)
class _Subscription:
    """One type on this stream."""

    names: frozenset[str] = frozenset()
    wildcard: bool = False
    named_before: bool = False
    owed: bool = True
    """An answer must be sent even where it says nothing new: the client waits for one."""
    nonce: str = ""
    version: str = ""
    sent: dict[str, Resource] = field(default_factory=dict)
    answered: bool = True
    """The client has accepted or refused the last response."""
    refused: Nack | None = None


class Stream:
    """State of one stream."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, _Subscription] = {}
        self._responses = 0

    def receive(self, request: Request) -> Nack | None:
        """Take a request into account; returns the refusal it carries, if any. Raises ProtocolError."""
        if len(request.names) > NAMES_MAX:
            raise ProtocolError(f"{len(request.names)} resource names in one request")
        if request.type_url not in ORDER:
            return None  # a type nobody has resources of: it stays unanswered, as the protocol wants
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            # The first request of a type. A nonce in it belongs to a stream that has ended.
            subscription = self._subscriptions[request.type_url] = _Subscription()
            self._subscribe(subscription, request)
            return None
        if request.nonce != subscription.nonce:
            return None
        self._subscribe(subscription, request)
        if request.error is None:
            # Names may change before the response is answered: only its own version says that it was accepted.
            if request.version == subscription.version:
                subscription.answered, subscription.refused = True, None
            return None
        subscription.answered = True
        subscription.refused = Nack(request.type_url, subscription.version, request.error)
        return subscription.refused

    def progress(self) -> Progress:
        """Where the client stands, as far as it has said."""
        known = self._subscriptions
        return Progress(
            waiting=tuple(type_url for type_url in ORDER if type_url in known and not known[type_url].answered),
            refused=tuple(
                nack for type_url in ORDER if type_url in known and (nack := known[type_url].refused) is not None
            ),
        )

    def accepted(self, type_url: str, name: str, version: str) -> bool:
        """Whether the client goes by this version of a resource, or never asked for that resource."""
        subscription = self._subscriptions.get(type_url)
        if subscription is None or not (subscription.wildcard or name in subscription.names):
            return True
        sent = subscription.sent.get(name)
        current = sent is not None and sent.version == version
        return current and subscription.answered and subscription.refused is None

    def due(self, snapshot: Snapshot) -> tuple[Response, ...]:
        """What must be sent now, in this order, for the client to have what it subscribed to."""
        responses: list[Response] = []
        clusters = self._subscriptions.get(CDS)
        leaving = self._leaving(clusters, snapshot) if clusters is not None else {}
        if clusters is not None:
            self._warm(clusters, snapshot)
        for type_url in ORDER:
            subscription = self._subscriptions.get(type_url)
            if subscription is None:
                continue
            kept = leaving.values() if type_url == CDS else ()
            responses += self._difference(type_url, subscription, snapshot, kept=kept)
        if clusters is not None and leaving:
            # Last: by now the client has been told of routes that no longer need them.
            responses += self._difference(CDS, clusters, snapshot, kept=())
        return tuple(responses)

    def _subscribe(self, subscription: _Subscription, request: Request) -> None:
        names = frozenset(request.names)
        subscription.named_before = subscription.named_before or bool(names)
        implicit = request.type_url in WHOLE and not names and not subscription.named_before
        wildcard = implicit or _WILDCARD in names
        names -= {_WILDCARD}
        if names - subscription.names or (wildcard and not subscription.wildcard):
            # Where the type's response is the whole truth, "there is none" is an answer, and Envoy waits for it.
            subscription.owed = True
        subscription.names = names
        subscription.wildcard = wildcard
        if not wildcard:
            # What is no longer wanted counts as not sent: subscribing again brings it again.
            subscription.sent = {name: sent for name, sent in subscription.sent.items() if name in names}

    def _wanted(self, type_url: str, subscription: _Subscription, snapshot: Snapshot) -> dict[str, Resource]:
        there = snapshot.of(type_url).resources
        if subscription.wildcard:
            return dict(there)
        return {name: there[name] for name in sorted(subscription.names) if name in there}

    def _warm(self, clusters: _Subscription, snapshot: Snapshot) -> None:
        """Owe the endpoints of every cluster that comes or changes: Envoy builds it anew and waits for them."""
        endpoints = self._subscriptions.get(EDS)
        if endpoints is not None:
            for name, resource in self._wanted(CDS, clusters, snapshot).items():
                if name not in clusters.sent or clusters.sent[name].version != resource.version:
                    endpoints.sent.pop(name, None)

    def _leaving(self, clusters: _Subscription, snapshot: Snapshot) -> dict[str, Resource]:
        wanted = self._wanted(CDS, clusters, snapshot)
        return {name: sent for name, sent in clusters.sent.items() if name not in wanted}

    def _difference(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot, *, kept: Iterable[Resource]
    ) -> list[Response]:
        """The response of one type, or none where the client has everything. `kept` must not vanish yet."""
        wanted = {resource.name: resource for resource in kept} | self._wanted(type_url, subscription, snapshot)
        news = {
            name: resource
            for name, resource in wanted.items()
            if name not in subscription.sent or subscription.sent[name].version != resource.version
        }
        if type_url in WHOLE:
            if not news and not subscription.owed and wanted.keys() == subscription.sent.keys():
                return []
            carried, subscription.sent = wanted, wanted
        else:
            if not news:
                return []
            carried = news
            subscription.sent = subscription.sent | news
        subscription.owed = False
        self._responses += 1
        subscription.nonce = str(self._responses)
        subscription.version = snapshot.of(type_url).version
        subscription.answered, subscription.refused = False, None
        resources = tuple(carried[name] for name in sorted(carried))
        return [Response(type_url, subscription.version, subscription.nonce, resources)]
