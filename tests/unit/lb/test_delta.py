"""Both variants of the protocol: readable cases of the incremental one, and what must hold of any conversation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import ProtocolError
from lb.xds.conversation import NAMES_MAX, WILDCARD, Nack, Progress
from lb.xds.delta import UNANSWERED_MAX, DeltaRequest, DeltaResponse, DeltaStream
from lb.xds.snapshot import Resource, Snapshot, TypeSet
from lb.xds.stream import Request, Stream
from lb.xds.subscribers import Subscribers
from lb.xds.types import CDS, ECDS, EDS, LDS, RDS, WHOLE, short

TYPES = (CDS, EDS, LDS, RDS)
Versions = Mapping[str, str]


def resource(type_url: str, name: str, version: str) -> Resource:
    return Resource(type_url, name, version, b"")


def snapshot(types: Mapping[str, Versions], withheld: Iterable[tuple[str, str]] = ()) -> Snapshot:
    sets = {
        type_url: TypeSet.of({name: resource(type_url, name, version) for name, version in of.items()})
        for type_url, of in types.items()
    }
    return Snapshot(sets, frozenset(withheld))


def told(responses: Iterable[DeltaResponse]) -> list[str]:
    """Each response in a line: what it brings, and what it takes away."""
    lines = []
    for each in responses:
        words = [f"{found.name}:{found.version}" for found in each.resources] + [f"-{name}" for name in each.removed]
        lines.append(" ".join([short(each.type_url), *words]))
    return lines


def test_only_what_changed_is_sent_and_what_is_gone_is_taken_away() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(CDS))
    assert ["Cluster a:1 b:1"] == told(stream.due(snapshot({CDS: {"a": "1", "b": "1"}})))

    stream.changed(CDS, ["a", "b", "c"])
    assert ["Cluster c:1", "Cluster -b"] == told(stream.due(snapshot({CDS: {"a": "1", "c": "1"}})))
    assert [] == told(stream.due(snapshot({CDS: {"a": "1", "c": "1"}})))


def test_a_client_that_comes_back_gets_the_differences_alone() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(CDS, nonce="7", held={"same": "1", "old": "1", "gone": "1"}))
    stream.receive(DeltaRequest(EDS, subscribe=("same", "old"), held={"same": "1", "old": "1", "other": "1"}))
    now = snapshot({CDS: {"same": "1", "old": "2", "new": "1"}, EDS: {"same": "1", "old": "1", "other": "2"}})

    # The endpoints of a cluster that changed come with it: Envoy builds it anew and waits for them.
    assert ["Cluster new:1 old:2", "ClusterLoadAssignment old:1", "Cluster -gone"] == told(stream.due(now))


def test_a_client_that_comes_back_and_has_everything_is_left_alone() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(CDS, held={"a": "1"}))
    stream.receive(DeltaRequest(EDS, subscribe=("a",), held={"a": "1"}))

    assert () == stream.due(snapshot({CDS: {"a": "1"}, EDS: {"a": "1"}}))
    assert stream.settled


def test_a_client_that_starts_is_answered_even_where_there_is_nothing() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(LDS))

    assert ["Listener"] == told(stream.due(snapshot({})))


def test_endpoints_that_go_while_their_cluster_comes_are_taken_away_from_who_follows_all_of_them() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(EDS, subscribe=("a",)))
    stream.due(snapshot({EDS: {"a": "1"}}))
    stream.receive(DeltaRequest(EDS, subscribe=(WILDCARD,), unsubscribe=("a",)))
    stream.receive(DeltaRequest(CDS))

    assert ["Cluster a:1", "ClusterLoadAssignment -a"] == told(stream.due(snapshot({CDS: {"a": "1"}})))


def test_who_is_sent_another_version_goes_by_it_when_it_has_answered_for_it_and_not_refused_it() -> None:
    stream, old, new = DeltaStream(), resource(EDS, "a", "1"), resource(EDS, "a", "2")
    assert stream.accepted(old)  # nobody asked for it
    stream.receive(DeltaRequest(EDS, subscribe=("a",), held={"a": "1"}))
    assert (True, False) == (stream.accepted(old), stream.accepted(new))
    stream.changed(EDS, ["a"])
    [first] = stream.due(snapshot({EDS: {"a": "2"}}))
    assert not stream.accepted(new)

    stream.receive(DeltaRequest(EDS, nonce=first.nonce, error="no"))
    assert not stream.accepted(new)

    stream.changed(EDS, ["a"])
    [second] = stream.due(snapshot({EDS: {"a": "3"}}))
    stream.receive(DeltaRequest(EDS, nonce=second.nonce))
    assert stream.accepted(resource(EDS, "a", "3"))


def test_what_does_not_exist_is_said_once_and_comes_when_it_is_there() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(RDS, subscribe=("a",)))
    assert ["RouteConfiguration -a"] == told(stream.due(snapshot({})))
    stream.changed(RDS, ["a"])
    assert [] == told(stream.due(snapshot({})))
    stream.changed(RDS, ["a"])

    assert ["RouteConfiguration a:1"] == told(stream.due(snapshot({RDS: {"a": "1"}})))


def test_what_is_withheld_is_not_said_to_be_missing() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(ECDS, subscribe=("keys",)))
    assert [] == told(stream.due(snapshot({}, withheld=[(ECDS, "keys")])))
    stream.changed(ECDS, ["keys"])

    assert ["TypedExtensionConfig keys:1"] == told(stream.due(snapshot({ECDS: {"keys": "1"}})))


def test_a_name_that_is_asked_for_again_is_sent_again() -> None:
    stream, now = DeltaStream(), snapshot({EDS: {"a": "1", "b": "1"}})
    stream.receive(DeltaRequest(EDS, subscribe=("a", "b")))
    stream.due(now)
    stream.receive(DeltaRequest(EDS, subscribe=("a",)))
    assert ["ClusterLoadAssignment a:1"] == told(stream.due(now))

    stream.receive(DeltaRequest(EDS, unsubscribe=("a", "phantom")))
    assert [] == told(stream.due(now))
    stream.receive(DeltaRequest(EDS, subscribe=("a",)))
    assert ["ClusterLoadAssignment a:1"] == told(stream.due(now))


def test_a_name_given_back_under_all_names_is_answered_for() -> None:
    stream, now = DeltaStream(), snapshot({CDS: {"a": "1", "b": "1"}})
    stream.receive(DeltaRequest(CDS, subscribe=(WILDCARD, "a", "c")))
    assert ["Cluster a:1 b:1", "Cluster -c"] == told(stream.due(now))
    stream.receive(DeltaRequest(CDS, unsubscribe=("a", "c")))
    assert ["Cluster a:1", "Cluster -c"] == told(stream.due(now))

    stream.receive(DeltaRequest(CDS, unsubscribe=(WILDCARD,)))
    stream.changed(CDS, ["b"])
    assert [] == told(stream.due(snapshot({CDS: {"a": "1", "b": "2"}})))


def test_removals_wait_until_nothing_refers_to_what_goes_and_listeners_are_replaced_at_once() -> None:
    stream = DeltaStream()
    for request in (DeltaRequest(CDS), DeltaRequest(LDS), DeltaRequest(RDS, subscribe=("x", "y"))):
        stream.receive(request)
    stream.receive(DeltaRequest(EDS, subscribe=("x", "y")))
    before = {type_url: {"x": "1"} for type_url in TYPES}
    after = {type_url: {"y": "1"} for type_url in TYPES}
    stream.due(snapshot(before))
    for type_url in TYPES:
        stream.changed(type_url, ["x", "y"])

    assert [
        "Cluster y:1",
        "ClusterLoadAssignment y:1",
        "Listener y:1 -x",
        "RouteConfiguration y:1",
        "RouteConfiguration -x",
        "Cluster -x",
        "ClusterLoadAssignment -x",
    ] == told(stream.due(snapshot(after)))


def test_answers_are_paired_with_their_responses() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(EDS, subscribe=("a", "b")))
    first, missing = stream.due(snapshot({EDS: {"a": "1"}}))
    stream.changed(EDS, ["b"])
    (second,) = stream.due(snapshot({EDS: {"a": "1", "b": "1"}}))
    stream.receive(DeltaRequest(EDS, nonce=missing.nonce))
    assert Progress(waiting=(EDS,)) == stream.progress()

    nack = stream.receive(DeltaRequest(EDS, nonce=second.nonce, error="no"))
    assert Nack(EDS, second.version, "no") == nack
    assert (EDS,) == stream.progress().waiting
    stream.receive(DeltaRequest(EDS, nonce=first.nonce))
    stream.receive(DeltaRequest(EDS, nonce=first.nonce, error="twice"))

    # What else is accepted does not mend what was refused; another version of it does.
    assert Progress(refused=(nack,)) == stream.progress()
    assert stream.refusing
    stream.changed(EDS, ["a"])
    stream.due(snapshot({EDS: {"a": "2", "b": "1"}}))
    assert (nack,) == stream.progress().refused
    stream.changed(EDS, ["b"])
    stream.due(snapshot({EDS: {"a": "2", "b": "2"}}))
    assert ((), False) == (stream.progress().refused, stream.refusing)


def test_a_client_that_never_answers_costs_no_more_memory_than_so_much() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(EDS, subscribe=("a",)))
    sent = []
    for version in range(UNANSWERED_MAX + 2):
        stream.changed(EDS, ["a"])
        sent += stream.due(snapshot({EDS: {"a": str(version)}}))

    assert stream.receive(DeltaRequest(EDS, nonce=sent[0].nonce, error="late")) is None
    assert stream.receive(DeltaRequest(EDS, nonce=sent[-1].nonce, error="no")) is not None


@pytest.mark.parametrize("where", ["subscribe", "unsubscribe", "held"])
def test_too_many_names_end_the_stream(where: str) -> None:
    names = tuple(map(str, range(NAMES_MAX + 1)))
    request = DeltaRequest(EDS, **{where: dict.fromkeys(names, "1") if where == "held" else names})  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        DeltaStream().receive(request)


def test_too_many_names_little_by_little_end_the_stream_as_well() -> None:
    stream = DeltaStream()
    stream.receive(DeltaRequest(EDS, subscribe=tuple(map(str, range(NAMES_MAX)))))
    stream.receive(DeltaRequest(EDS, subscribe=("one more",), unsubscribe=("0",)))

    with pytest.raises(ProtocolError):
        stream.receive(DeltaRequest(EDS, subscribe=("another",)))


@dataclass
class Conversation:
    """A client that keeps what it accepted and checks that it is sent nothing twice; its stream, which is told of
    changes by the index alone."""

    subscribers: Subscribers = field(default_factory=Subscribers)
    names: dict[str, frozenset[str]] = field(default_factory=dict)
    held: dict[str, dict[str, str]] = field(default_factory=lambda: {type_url: {} for type_url in TYPES})
    refused: dict[str, set[str]] = field(default_factory=lambda: {type_url: set() for type_url in TYPES})
    given: dict[str, dict[str, str]] = field(default_factory=lambda: {type_url: {} for type_url in TYPES})
    """What the server may take the client to have."""
    stream: Any = None

    def connect(self, machine: Any) -> None:
        self.subscribers = Subscribers()
        watch = self.subscribers.open(lambda type_url, names: self.stream.changed(type_url, names))
        self.stream = machine(watch)

    def wants(self, type_url: str, name: str) -> bool:
        return bool({name, WILDCARD} & self.names.get(type_url, frozenset()))

    def expected(self, type_url: str, now: Snapshot) -> dict[str, str]:
        there = now.of(type_url).resources
        return {name: each.version for name, each in there.items() if self.wants(type_url, name)}


class Incremental(Conversation):
    def reconnect(self) -> None:
        self.connect(DeltaStream)
        for type_url, names in self.names.items():
            self.held[type_url] = {name: v for name, v in self.held[type_url].items() if self.wants(type_url, name)}
            self.given[type_url] = dict(self.held[type_url])
            self.refused[type_url] = set()
            self.stream.receive(DeltaRequest(type_url, subscribe=tuple(names), held=dict(self.held[type_url])))

    def ask(self, type_url: str, names: frozenset[str]) -> None:
        before = self.names.get(type_url)
        self.names[type_url] = names
        if before is None:
            self.stream.receive(DeltaRequest(type_url, subscribe=tuple(names)))
            return
        gone = before - names
        for name in tuple(self.held[type_url]):
            if not self.wants(type_url, name):
                self.held[type_url].pop(name)
        for kept in (self.given[type_url], dict.fromkeys(self.refused[type_url], "")):
            for name in tuple(kept):
                # Given back under all names: it is answered for.
                if name and (name in gone or not self.wants(type_url, name)):
                    self.given[type_url].pop(name, None)
                    self.refused[type_url].discard(name)
        self.stream.receive(DeltaRequest(type_url, subscribe=tuple(names - before), unsubscribe=tuple(gone)))
        for name in names - before:
            self.given[type_url].pop(name, None)

    def take(self, now: Snapshot, *, refuse: bool) -> None:
        warmed = set()
        for response in self.stream.due(now):
            of, given = response.type_url, self.given[response.type_url]
            for each in response.resources:
                assert self.wants(of, each.name)
                assert given.get(each.name) != each.version or (of == EDS and each.name in warmed)
                given[each.name] = each.version
            warmed |= {each.name for each in response.resources if of == CDS}
            for name in response.removed:
                assert name not in now.of(of).resources
                given.pop(name, None)
            touched = {each.name for each in response.resources} | set(response.removed)
            if refuse:
                self.refused[of] |= touched or {""}
            else:
                self.refused[of] -= touched | {""}
                self.held[of].update({each.name: each.version for each in response.resources})
                for name in response.removed:
                    self.held[of].pop(name, None)
            self.stream.receive(DeltaRequest(of, nonce=response.nonce, error="no" if refuse else None))


class Whole(Conversation):
    def reconnect(self) -> None:
        self.connect(Stream)
        self.given = {type_url: {} for type_url in TYPES}
        self.refused = {type_url: set() for type_url in TYPES}
        for type_url, names in self.names.items():
            self.held[type_url] = {name: v for name, v in self.held[type_url].items() if self.wants(type_url, name)}
            self.stream.receive(Request(type_url, version="old", nonce="99", names=tuple(names)))
        self._nonces: dict[str, tuple[str, str]] = {}

    def ask(self, type_url: str, names: frozenset[str]) -> None:
        self.names[type_url] = names
        for kept in (self.held[type_url], self.given[type_url]):
            for name in tuple(kept):
                if not self.wants(type_url, name):
                    kept.pop(name)
        self.refused[type_url] = {name for name in self.refused[type_url] if not name or self.wants(type_url, name)}
        version, nonce = self._nonces.get(type_url, ("", ""))
        self.stream.receive(Request(type_url, version=version, nonce=nonce, names=tuple(names)))

    def take(self, now: Snapshot, *, refuse: bool) -> None:
        warmed: set[str] = set()
        for response in self.stream.due(now):
            of, carried = response.type_url, {each.name: each.version for each in response.resources}
            if of in WHOLE:
                warmed |= {name for name, version in carried.items() if self.given[of].get(name) != version}
                self.given[of] = dict(carried)
            else:
                for name, version in carried.items():
                    assert self.wants(of, name)
                    assert self.given[of].get(name) != version or (of == EDS and name in warmed)
                self.given[of].update(carried)
            if refuse:
                self.refused[of] |= carried.keys() | (self.held[of].keys() if of in WHOLE else set()) or {""}
            else:
                self.refused[of] = set() if of in WHOLE else self.refused[of] - carried.keys()
                self.held[of] = carried if of in WHOLE else self.held[of] | carried
            self._nonces[of] = (response.version, response.nonce)
            self.stream.receive(
                Request(
                    of,
                    version="old" if refuse else response.version,
                    nonce=response.nonce,
                    names=tuple(self.names[of]),
                    error="no" if refuse else None,
                )
            )


NAMES = st.sampled_from("abcd")
SNAPSHOTS = st.builds(
    lambda *of: snapshot(dict(zip(TYPES, of, strict=True))), *[st.dictionaries(NAMES, st.sampled_from("123"))] * 4
)
#: No name at all would mean all of them: who wants nothing asks for what never is.
WANTED = st.frozensets(st.sampled_from(["a", "b", "c", "d", WILDCARD])).map(lambda names: names or frozenset({"none"}))
QUESTIONS = st.tuples(st.sampled_from(TYPES), WANTED)
STEPS = st.lists(
    st.one_of(SNAPSHOTS, QUESTIONS, st.sampled_from(["accept", "refuse", "reconnect"])), min_size=1, max_size=20
)


@pytest.mark.parametrize("variant", [Incremental, Whole])
@given(steps=STEPS)
def test_whatever_is_said_a_client_ends_up_with_what_there_is_and_is_sent_nothing_without_need(
    variant: type[Incremental | Whole], steps: list[Any]
) -> None:
    client, now = variant(), snapshot({})
    client.reconnect()
    for step in steps:
        if isinstance(step, Snapshot):
            before, now = now, step
            client.subscribers.tell(now.changes_since(before))
        elif isinstance(step, tuple):
            client.ask(*step)
        elif step == "reconnect":
            client.reconnect()
        else:
            client.take(now, refuse=step == "refuse")
    client.take(now, refuse=False)

    assert client.stream.settled
    assert () == client.stream.due(now)
    for type_url in client.names:
        known = client.refused[type_url]
        if type_url in WHOLE and known and variant is Whole:
            continue
        expected = {name: version for name, version in client.expected(type_url, now).items() if name not in known}
        held = {name: version for name, version in client.held[type_url].items() if name not in known}
        if variant is Whole and type_url not in WHOLE:
            assert expected.items() <= held.items()
        else:
            assert expected == held
    refusing = {type_url for type_url, names in client.refused.items() if names}
    assert refusing >= {nack.type_url for nack in client.stream.progress().refused}
