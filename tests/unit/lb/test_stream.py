"""The protocol machine: readable transcripts, and what must hold of any conversation."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.errors import ProtocolError
from lb.xds.snapshot import Resource, Snapshot, TypeSet
from lb.xds.stream import NAMES_MAX, Request, Stream
from lb.xds.types import CDS, ECDS, EDS, LDS, ORDER, RDS, WHOLE

WORDS = {"cds": CDS, "eds": EDS, "lds": LDS, "rds": RDS, "ecds": ECDS}
SHORT = {type_url: word for word, type_url in WORDS.items()}
TRANSCRIPTS = sorted((Path(__file__).parent / "testdata").glob("stream_*.txt"))


def snapshot(**types: dict[str, str]) -> Snapshot:
    sets = {}
    for word, versions in types.items():
        resources = {name: Resource(WORDS[word], name, version, b"") for name, version in versions.items()}
        sets[WORDS[word]] = TypeSet("+".join(f"{name}{version}" for name, version in versions.items()), resources)
    return Snapshot(sets)


def tell(stream: Stream, before: Snapshot | None, after: Snapshot) -> None:
    """What the feed does with a new snapshot, for a stream that watches everything."""
    for type_url, names in after.changes_since(before).items():
        stream.changed(type_url, names)


class Transcript:
    """Replays the lines that begin with `>` and writes what the machine answers below each."""

    def __init__(self) -> None:
        self._stream = Stream()
        self._snapshot: Snapshot | None = None

    def replay(self, text: str) -> str:
        lines: list[str] = []
        for line in text.splitlines():
            if line.startswith("<"):
                continue
            lines.append(line)
            if line.startswith(">"):
                lines += list(self._step(line.removeprefix(">").split())) or ["< nothing"]
        return "\n".join(lines) + "\n"

    def _step(self, words: list[str]) -> Iterator[str]:
        verb, *rest = words
        before = self._snapshot
        if verb == "reconnect":
            self._stream = Stream()
        elif verb == "snapshot":
            self._snapshot = snapshot(
                **{word: dict(_pairs(of)) for word, _, of in (each.partition("=") for each in rest)}
            )
        else:
            fields = dict(each.split("=", 1) for each in rest[1:])
            nack = self._stream.receive(
                Request(
                    type_url=WORDS[rest[0]],
                    nonce=fields.get("nonce", ""),
                    names=tuple(filter(None, fields.get("names", "").split(","))),
                    error=fields.get("error"),
                )
            )
            if nack is not None:
                yield f"< refused {SHORT[nack.type_url]} version={nack.version} {nack.detail}"
        if self._snapshot is not None:
            if verb == "snapshot":
                tell(self._stream, before, self._snapshot)
            for response in self._stream.due(self._snapshot):
                carried = " ".join(f"{each.name}:{each.version}" for each in response.resources) or "(empty)"
                yield f"< {SHORT[response.type_url]} nonce={response.nonce} {carried}"


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in filter(None, text.split(",")):
        name, _, version = pair.partition(":")
        yield name, version


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, request: pytest.FixtureRequest) -> None:
    actual = Transcript().replay(path.read_text())
    if request.config.getoption("--rewrite", default=False):
        path.write_text(actual)

    assert path.read_text() == actual


def test_too_many_names_end_the_stream() -> None:
    with pytest.raises(ProtocolError):
        Stream().receive(Request(EDS, names=tuple(map(str, range(NAMES_MAX + 1)))))


def test_a_type_nobody_has_is_left_unanswered() -> None:
    stream = Stream()
    stream.receive(Request("type.googleapis.com/envoy.service.runtime.v3.Runtime"))

    assert () == stream.due(snapshot(cds={"a": "1"}))


NAMES = st.sampled_from("abcd")
VERSIONS = st.dictionaries(NAMES, st.sampled_from("123"))
SNAPSHOTS = st.builds(lambda cds, eds, lds, rds: snapshot(cds=cds, eds=eds, lds=lds, rds=rds), *[VERSIONS] * 4)
SUBSCRIPTIONS = st.tuples(st.sampled_from([CDS, EDS, LDS, RDS]), st.frozensets(NAMES))
STEPS = st.lists(st.one_of(SNAPSHOTS, SUBSCRIPTIONS), min_size=1, max_size=12)


@given(STEPS)
def test_a_client_that_acknowledges_ends_up_with_what_it_wants_and_is_sent_nothing_twice(steps: list[object]) -> None:
    stream, latest = Stream(), snapshot()
    nonces: dict[str, str] = {}
    wanted: dict[str, frozenset[str]] = {}
    wildcard: dict[str, bool] = {}
    held: dict[str, dict[str, str]] = {}
    for step in steps:
        if isinstance(step, Snapshot):
            tell(stream, latest, step)
            latest = step
        else:
            assert isinstance(step, tuple)
            type_url, names = step
            wildcard[type_url] = not names and type_url in WHOLE and wildcard.get(type_url, True)
            wanted[type_url] = names
            held[type_url] = {
                name: version for name, version in held.get(type_url, {}).items() if name in names or wildcard[type_url]
            }
            stream.receive(Request(type_url, nonce=nonces.get(type_url, ""), names=tuple(names)))
        for response in stream.due(latest):
            carried = {each.name: each.version for each in response.resources}
            kept = {} if response.type_url in WHOLE else held[response.type_url]
            held[response.type_url] = {**kept, **carried}
            nonces[response.type_url] = response.nonce

        assert () == stream.due(latest)
        for type_url, names in wanted.items():
            there = latest.of(type_url).resources
            expected = {n: r.version for n, r in there.items() if n in names or wildcard[type_url]}
            if type_url in WHOLE:
                assert expected == held[type_url]
            else:
                assert expected.items() <= held[type_url].items()


@given(SNAPSHOTS, SNAPSHOTS)
def test_clusters_come_before_what_uses_them_and_go_after(before: Snapshot, after: Snapshot) -> None:
    stream = Stream()
    stream.receive(Request(CDS))
    stream.receive(Request(LDS))
    stream.due(before)
    tell(stream, before, after)
    responses = stream.due(after)

    order = [ORDER.index(response.type_url) for response in responses]
    removed = before.of(CDS).resources.keys() - after.of(CDS).resources.keys()
    body = order[:-1] if removed else order
    assert sorted(body) == body
    if removed:
        assert responses[-1].type_url == CDS
    for response in responses[:-1]:
        if response.type_url == CDS:
            assert removed <= {each.name for each in response.resources}
