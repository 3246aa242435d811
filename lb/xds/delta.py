"""The protocol of one xDS stream, without I/O: incremental, aggregated (delta ADS). See `conversation`.

Rules, after the xDS protocol document: a client says what it subscribes to and what no longer; with its first request
of a type it says what it has already (`initial_resource_versions`), and only what differs is sent. A name that is
subscribed to again is sent again, for the client may have forgotten it. Of a name that does not exist it is told so. No
names in the first request of CDS or LDS means all of them. An answer is paired with its response by nonce; changes of
subscriptions are honoured whatever the nonce. Additions go out before what refers to them, removals after it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from lb.errors import ProtocolError
from lb.xds.conversation import NAMES_MAX, WILDCARD, Nack, Progress, Refusals, Unwatched, Watch
from lb.xds.snapshot import Resource, Snapshot, TypeSet
from lb.xds.types import CDS, ECDS, EDS, ORDER, RDS, SDS, WHOLE

#: Responses of one type that may be under way unanswered; of more than these the oldest is taken for answered.
UNANSWERED_MAX: Final = 256
_UNWATCHED: Final = Unwatched()
#: What is held of a name of which the client was told that there is none.
_NONE: Final = ""
#: What is held of a name that must be answered for whatever there is.
_UNSURE: Final = "?"
#: Removals go out so that nothing is missed by what still refers to it. Listeners are not among them: Envoy takes one
#: away before it adds another at its address only where one response says both.
_REMOVALS: Final = (RDS, ECDS, CDS, EDS, SDS)


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """What of a DeltaDiscoveryRequest matters to the protocol."""

    type_url: str
    nonce: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    held: Mapping[str, str] = field(default_factory=dict)
    """Versions of what the client has from an earlier stream."""
    error: str | None = None
    """Why the response was refused; None where it was not."""


@dataclass(frozen=True, slots=True)
class DeltaResponse:
    """What becomes a DeltaDiscoveryResponse."""

    type_url: str
    version: str
    """For people who read a trace; the protocol goes by the resources' own versions."""
    nonce: str
    resources: tuple[Resource, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Sent:
    version: str
    names: tuple[str, ...]


@dataclass(slots=True)
class _Subscription:
    """One type on this stream."""

    names: set[str] = field(default_factory=set)
    wildcard: bool = False
    owed: bool = False
    """A client that starts with all names waits for an answer, even for one that says that there are none."""
    held: dict[str, str] = field(default_factory=dict)
    """Version that the client was sent, or said to have, of each name."""
    open: set[str] = field(default_factory=set)
    """Names to look at: what the client has of them may not be what there is."""
    everything: bool = False
    """All names are to be looked at."""
    unanswered: dict[str, _Sent] = field(default_factory=dict)
    refused: Refusals = field(default_factory=Refusals)


class DeltaStream:
    """State of one stream."""

    def __init__(self, watch: Watch = _UNWATCHED) -> None:
        self._watch = watch
        self._subscriptions: dict[str, _Subscription] = {}
        self._responses = 0
        self.unsent = False
        """Something was said that `due` has not looked at yet."""
        self.refusing = False
        """The client holds on to something older than what it was sent."""

    @property
    def settled(self) -> bool:
        """True when nothing is under way to the client."""
        return not self.unsent and not any(each.unanswered for each in self._subscriptions.values())

    def receive(self, request: DeltaRequest) -> Nack | None:
        """Take a request into account; returns the refusal it carries, if any. Raises ProtocolError."""
        if max(len(request.subscribe), len(request.unsubscribe), len(request.held)) > NAMES_MAX:
            raise ProtocolError(f"more than {NAMES_MAX} resource names in one request")
        if request.type_url not in ORDER:
            return None  # a type nobody has resources of: it stays unanswered
        subscription = self._subscriptions.get(request.type_url)
        if subscription is None:
            subscription = self._subscriptions[request.type_url] = _Subscription()
            self._begin(subscription, request)
            return None
        if request.subscribe or request.unsubscribe:
            self._subscribe(request.type_url, subscription, request.subscribe)
            self._unsubscribe(request.type_url, subscription, request.unsubscribe)
            if len(subscription.names) > NAMES_MAX:
                raise ProtocolError(f"more than {NAMES_MAX} resource names on one stream")
        return self._answered(subscription, request)

    def changed(self, type_url: str, names: Iterable[str]) -> None:
        """Look at these names again: what there is of them has changed."""
        subscription = self._subscriptions.get(type_url)
        if subscription is not None:
            subscription.open.update(names)
            self.unsent = True

    def progress(self) -> Progress:
        """Where the client stands, as far as it has said."""
        known = {type_url: self._subscriptions[type_url] for type_url in ORDER if type_url in self._subscriptions}
        return Progress(
            waiting=tuple(type_url for type_url, each in known.items() if each.unanswered),
            refused=tuple(nack for each in known.values() for nack in each.refused.nacks()),
        )

    def accepted(self, resource: Resource) -> bool:
        """Whether the client goes by this version of a resource, or never asked for it."""
        subscription = self._subscriptions.get(resource.type_url)
        if subscription is None or not (subscription.wildcard or resource.name in subscription.names):
            return True
        current = subscription.held.get(resource.name) == resource.version
        under_way = any(resource.name in sent.names for sent in subscription.unanswered.values())
        return current and not under_way and resource.name not in subscription.refused

    def due(self, snapshot: Snapshot) -> tuple[DeltaResponse, ...]:
        """What must be sent now, in this order, for the client to have what it subscribed to."""
        responses: list[DeltaResponse] = []
        later: dict[str, tuple[str, ...]] = {}
        for type_url in ORDER:
            subscription = self._subscriptions.get(type_url)
            if subscription is None or not (subscription.open or subscription.everything or subscription.owed):
                continue
            news, removed = self._difference(type_url, subscription, snapshot)
            if type_url == CDS:
                self._warm(news)
            if removed and type_url in _REMOVALS:
                later[type_url], removed = removed, ()
            if news or removed or subscription.owed:
                responses.append(self._respond(type_url, snapshot.of(type_url), news, removed))
        responses += [
            self._respond(type_url, snapshot.of(type_url), (), later[type_url])
            for type_url in sorted(later, key=_REMOVALS.index)
        ]
        self.unsent = False
        return tuple(responses)

    def _begin(self, subscription: _Subscription, request: DeltaRequest) -> None:
        """The first request of a type. A nonce in it belongs to a stream that has ended."""
        implicit = request.type_url in WHOLE and not request.subscribe and not request.unsubscribe
        self._subscribe(request.type_url, subscription, (WILDCARD,) if implicit else request.subscribe)
        subscription.owed = subscription.wildcard and not request.held
        subscription.held = {
            name: version
            for name, version in request.held.items()
            if subscription.wildcard or name in subscription.names
        }

    def _subscribe(self, type_url: str, subscription: _Subscription, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                subscription.wildcard = subscription.everything = True
            else:
                subscription.names.add(name)
                subscription.open.add(name)
                subscription.held.pop(name, None)
        self._watch.add(type_url, names)
        self.unsent = True

    def _unsubscribe(self, type_url: str, subscription: _Subscription, names: Iterable[str]) -> None:
        for name in names:
            if name == WILDCARD:
                subscription.wildcard = subscription.everything = False
                for each in subscription.held.keys() - subscription.names:
                    del subscription.held[each]
                self._forget(subscription, [each for each in subscription.refused if each not in subscription.names])
            elif name in subscription.names:
                subscription.names.discard(name)
                if subscription.wildcard:
                    # The client does not know whether "all" includes it: it is sent, or told that there is none.
                    subscription.held[name] = _UNSURE
                    subscription.open.add(name)
                else:
                    subscription.held.pop(name, None)
                    self._forget(subscription, (name,))
        self._watch.remove(type_url, names)
        self.unsent = True

    def _answered(self, subscription: _Subscription, request: DeltaRequest) -> Nack | None:
        sent = subscription.unanswered.pop(request.nonce, None)
        if sent is None or request.error is None:
            return None
        nack = Nack(request.type_url, sent.version, request.error)
        subscription.refused.refuse(sent.names, nack)
        self.refusing = True
        return nack

    def _forget(self, subscription: _Subscription, names: Iterable[str]) -> None:
        if self.refusing:
            subscription.refused.forget(names)
            self.refusing = any(each.refused for each in self._subscriptions.values())

    def _warm(self, clusters: Iterable[Resource]) -> None:
        """Owe the endpoints of every cluster that comes or changes: Envoy builds it anew and waits for them."""
        endpoints = self._subscriptions.get(EDS)
        if endpoints is not None:
            for cluster in clusters:
                if cluster.name in endpoints.held:
                    endpoints.held[cluster.name] = _UNSURE
                    endpoints.open.add(cluster.name)

    def _difference(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot
    ) -> tuple[tuple[Resource, ...], tuple[str, ...]]:
        """What the client has not, and what it must no longer have."""
        there = snapshot.of(type_url).resources
        looked_at: set[str] = subscription.open
        if subscription.everything:
            looked_at = subscription.open | there.keys() | subscription.held.keys()
        news: list[Resource] = []
        removed: list[str] = []
        for name in sorted(looked_at):
            resource, held = there.get(name), subscription.held.get(name)
            if resource is not None:
                if held != resource.version and (subscription.wildcard or name in subscription.names):
                    subscription.held[name] = resource.version
                    news.append(resource)
            elif (type_url, name) in snapshot.withheld:
                continue
            elif name in subscription.names:
                if held != _NONE:
                    subscription.held[name] = _NONE
                    removed.append(name)
            elif held is not None:
                del subscription.held[name]
                removed.append(name)
        subscription.open.clear()
        subscription.everything = False
        return tuple(news), tuple(removed)

    def _respond(
        self, type_url: str, there: TypeSet, news: tuple[Resource, ...], removed: tuple[str, ...]
    ) -> DeltaResponse:
        subscription = self._subscriptions[type_url]
        subscription.owed = False
        self._responses += 1
        nonce = str(self._responses)
        names = (*(resource.name for resource in news), *removed)
        subscription.unanswered[nonce] = _Sent(there.version, names)
        if len(subscription.unanswered) > UNANSWERED_MAX:
            del subscription.unanswered[next(iter(subscription.unanswered))]
        self._forget(subscription, names)
        return DeltaResponse(type_url, there.version, nonce, news, removed)
