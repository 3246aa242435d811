"""The protocol of one xDS stream, without I/O: state of the world, aggregated (ADS). See `conversation`.

Rules, after the xDS protocol document: a request whose nonce is not that of the last response of its type is stale and
ignored; an acknowledged or refused version is not sent again; no names in the first request of a whole type (CDS, LDS)
means all of them, no names later means none; additions go out before what refers to them, removals of clusters last.
A cluster and its endpoints' resource have one name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lb.errors import ProtocolError
from lb.xds.conversation import NAMES_MAX, WILDCARD, Nack, Progress, Refusals, Unwatched, Watch
from lb.xds.snapshot import Resource, Snapshot
from lb.xds.types import CDS, EDS, ORDER, WHOLE

_UNWATCHED: Final = Unwatched()


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


@dataclass(slots=True)
class _Subscription:
    """One type on this stream."""

    asked: tuple[str, ...] = ()
    """The names as the last request had them: those of an acknowledgement are nearly always the same."""
    names: frozenset[str] = frozenset()
    wildcard: bool = False
    named_before: bool = False
    owed: bool = True
    """An answer must be sent even where it says nothing new: the client waits for one."""
    nonce: str = ""
    version: str = ""
    sent: dict[str, Resource] = field(default_factory=dict)
    carried: tuple[str, ...] = ()
    """Names in the last response."""
    answered: bool = True
    """The client has accepted or refused the last response."""
    refused: Refusals = field(default_factory=Refusals)
    open: set[str] = field(default_factory=set)
    """Names to look at: what the client has of them may not be what there is."""
    everything: bool = False
    """All names are to be looked at."""


class Stream:
    """State of one stream."""

    def __init__(self, watch: Watch = _UNWATCHED) -> None:
        self._watch = watch
        self._subscriptions: dict[str, _Subscription] = {}
        self._responses = 0
        self._unanswered = 0
        self.unsent = False
        """Something was said that `due` has not looked at yet."""
        self.refusing = False
        """The client holds on to something older than what it was sent."""

    @property
    def settled(self) -> bool:
        """True when nothing is under way to the client."""
        return not self.unsent and not self._unanswered

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
        if request.names != subscription.asked:
            self._subscribe(subscription, request)
        # Names may change before the response is answered: only its own version says that it was accepted.
        if request.error is None and request.version != subscription.version:
            return None
        if not subscription.answered:
            subscription.answered = True
            self._unanswered -= 1
        if request.error is None:
            return None
        nack = Nack(request.type_url, subscription.version, request.error)
        subscription.refused.refuse(subscription.carried, nack)
        self.refusing = True
        return nack

    def changed(self, type_url: str, names: Iterable[str]) -> None:
        """Look at these names again: what there is of them has changed."""
        subscription = self._subscriptions.get(type_url)
        if subscription is not None:
            subscription.open.update(names)
            self.unsent = True

    def progress(self) -> Progress:
        """Where the client stands, as far as it has said."""
        known = [self._subscriptions[type_url] for type_url in ORDER if type_url in self._subscriptions]
        return Progress(
            waiting=tuple(
                type_url for type_url in ORDER if type_url in self._subscriptions and not self._is_answered(type_url)
            ),
            refused=tuple(nack for each in known for nack in each.refused.nacks()),
        )

    def accepted(self, resource: Resource) -> bool:
        """Whether the client goes by this version of a resource, or never asked for it."""
        subscription = self._subscriptions.get(resource.type_url)
        if subscription is None or not (subscription.wildcard or resource.name in subscription.names):
            return True
        current = not _differs(subscription.sent.get(resource.name), resource)
        return current and subscription.answered and resource.name not in subscription.refused

    def due(self, snapshot: Snapshot) -> tuple[Response, ...]:
        """What must be sent now, in this order, for the client to have what it subscribed to."""
        responses: list[Response] = []
        leaving: dict[str, Resource] = {}
        clusters = self._subscriptions.get(CDS)
        if clusters is not None and (clusters.open or clusters.everything):
            leaving = self._leaving(clusters, snapshot)
            self._warm(clusters, snapshot)
        for type_url in ORDER:
            subscription = self._subscriptions.get(type_url)
            if subscription is None or not (subscription.open or subscription.everything or subscription.owed):
                continue
            if type_url in WHOLE:
                kept = leaving if type_url == CDS else {}
                responses += self._whole(type_url, subscription, snapshot, kept=kept)
            else:
                responses += self._news(type_url, subscription, snapshot)
        if clusters is not None and leaving:
            # Last: by now the client has been told of routes that no longer need them.
            responses += self._whole(CDS, clusters, snapshot, kept={})
        self.unsent = False
        return tuple(responses)

    def _is_answered(self, type_url: str) -> bool:
        return self._subscriptions[type_url].answered

    def _subscribe(self, subscription: _Subscription, request: Request) -> None:
        subscription.asked = request.names
        names = frozenset(request.names)
        subscription.named_before = subscription.named_before or bool(names)
        implicit = request.type_url in WHOLE and not names and not subscription.named_before
        wildcard = implicit or WILDCARD in names
        names -= {WILDCARD}
        new, gone = names - subscription.names, subscription.names - names
        if new or (wildcard and not subscription.wildcard):
            # Where the type's response is the whole truth, "there is none" is an answer, and Envoy waits for it.
            subscription.owed = True
        self._watch.add(request.type_url, new)
        self._watch.remove(request.type_url, gone)
        if wildcard and not subscription.wildcard:
            self._watch.add(request.type_url, (WILDCARD,))
        elif subscription.wildcard and not wildcard:
            self._watch.remove(request.type_url, (WILDCARD,))
        subscription.open |= new
        subscription.everything = subscription.everything or wildcard != subscription.wildcard
        subscription.names = names
        subscription.wildcard = wildcard
        if not wildcard:
            # What is no longer wanted counts as not sent: subscribing again brings it again.
            subscription.sent = {name: sent for name, sent in subscription.sent.items() if name in names}
            self._forget(subscription, [name for name in subscription.refused if name not in names])
        if gone and request.type_url in WHOLE:
            subscription.everything = True
        self.unsent = True

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
                    endpoints.open.add(name)

    def _leaving(self, clusters: _Subscription, snapshot: Snapshot) -> dict[str, Resource]:
        wanted = self._wanted(CDS, clusters, snapshot)
        return {name: sent for name, sent in clusters.sent.items() if name not in wanted}

    def _whole(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot, *, kept: dict[str, Resource]
    ) -> list[Response]:
        """All there is of a type, or nothing where the client has that. `kept` must not vanish yet."""
        wanted = kept | self._wanted(type_url, subscription, snapshot)
        news = [name for name, resource in wanted.items() if _differs(subscription.sent.get(name), resource)]
        subscription.open.clear()
        subscription.everything = False
        if not news and not subscription.owed and wanted.keys() == subscription.sent.keys():
            return []
        subscription.sent = wanted
        return [self._respond(type_url, subscription, snapshot, tuple(wanted[name] for name in sorted(wanted)))]

    def _news(self, type_url: str, subscription: _Subscription, snapshot: Snapshot) -> list[Response]:
        """What of a type the client has not, if anything: what a response leaves out stays as it was."""
        there = snapshot.of(type_url).resources
        looked_at: Iterable[str] = subscription.open
        if subscription.everything:
            looked_at = there.keys()
        news: list[Resource] = []
        for name in sorted(looked_at):
            resource = there.get(name)
            if resource is None:
                self._forget(subscription, (name,))
                continue
            if not (subscription.wildcard or name in subscription.names):
                continue
            if _differs(subscription.sent.get(name), resource):
                news.append(resource)
        subscription.open.clear()
        subscription.everything = False
        # Where a response is not the whole truth, silence is the only way to say that there is none.
        subscription.owed = False
        if not news:
            return []
        subscription.sent.update({resource.name: resource for resource in news})
        return [self._respond(type_url, subscription, snapshot, tuple(news))]

    def _respond(
        self, type_url: str, subscription: _Subscription, snapshot: Snapshot, resources: tuple[Resource, ...]
    ) -> Response:
        self._responses += 1
        subscription.owed = False
        subscription.nonce = str(self._responses)
        subscription.version = snapshot.of(type_url).version
        subscription.carried = tuple(resource.name for resource in resources)
        if subscription.answered:
            subscription.answered = False
            self._unanswered += 1
        self._forget(subscription, subscription.refused if type_url in WHOLE else subscription.carried)
        return Response(type_url, subscription.version, subscription.nonce, resources)

    def _forget(self, subscription: _Subscription, names: Iterable[str]) -> None:
        if self.refusing:
            subscription.refused.forget(names)
            self.refusing = any(each.refused for each in self._subscriptions.values())


def _differs(sent: Resource | None, resource: Resource) -> bool:
    return sent is not resource and (sent is None or sent.version != resource.version)
