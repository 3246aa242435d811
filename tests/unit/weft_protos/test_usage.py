"""Notes of what consumers use: merged whatever the order, bounded, and read back only where they are notes."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft_protos import usage
from weft_protos.usage import Entry

METHOD = "weft.orders.v1.OrderService/GetOrder"
NOW = 500_000


def entry(path: str = "name", *, who: str = "shop/1", method: str = METHOD) -> Entry:
    return Entry(method, who, "sent", path)


USES = st.builds(
    Entry,
    st.sampled_from([METHOD, "x.Y/Z"]),
    st.just("shop"),
    st.sampled_from(["call", "sent", "read"]),
    st.text(max_size=5),
)
NOTES = st.dictionaries(USES | st.just(usage.since("orders")), st.integers(NOW - 100, NOW), max_size=8)


@given(st.tuples(NOTES, NOTES, NOTES))
def test_the_order_of_merging_does_not_matter(notes: tuple[dict[Entry, int], ...]) -> None:
    merged = [usage.merge(*order) for order in itertools.permutations(notes)]
    nested = usage.merge(usage.merge(notes[0], notes[1]), usage.merge(notes[1], notes[2]))

    assert [merged[0]] * len(merged) == merged
    assert merged[0] == nested


@given(NOTES)
def test_a_document_is_read_back(notes: dict[Entry, int]) -> None:
    assert notes == usage.decode(usage.encode(notes, "orders", now_hour=NOW))


def test_of_beginnings_the_earlier_counts_and_of_uses_the_later() -> None:
    begun = usage.since("orders")

    assert {entry(): 9, begun: 3} == usage.merge({entry(): 9, begun: 5}, {entry(): 7, begun: 3})


def test_what_nobody_used_for_90_days_is_forgotten_but_not_the_beginning() -> None:
    old = NOW - usage.KEPT_HOURS
    notes = {entry("a"): old - 1, entry("b"): old, usage.since("orders"): old - 1000}

    assert {entry("b"), usage.since("orders")} == set(usage.decode(usage.encode(notes, "orders", now_hour=NOW)))


def test_too_much_is_cut_to_the_latest_and_says_so() -> None:
    notes = {entry(f"field_{number}", who=f"shop-{number % 50}"): NOW - number % 1000 for number in range(10_000)}
    notes[usage.since("orders")] = NOW - 5000
    content = usage.encode(notes, "orders", now_hour=NOW)
    found = usage.decode(content)

    assert len(content) <= usage.DOCUMENT_BYTES_MAX
    assert NOW == found[usage.dropped("orders")]
    assert NOW - 5000 == found[usage.since("orders")]
    kept = [hour for one, hour in found.items() if one.kind == "sent"]
    gone = [hour for one, hour in notes.items() if one.kind == "sent" and one not in found]
    assert min(kept) >= max(gone)
    # Cutting what is cut already changes nothing: instances agree.
    assert content == usage.encode(usage.merge(found, notes), "orders", now_hour=NOW)


@pytest.mark.parametrize(
    "methods",
    [
        None,
        [],
        {"m": {"shop": {"sent": {"a": "late"}}}},
        {"m": {"shop": {"sent": {"a": -1}}}},
        {"m": {"shop": {"sent": {"a": True}}}},
        {"m": {"shop": {"eaten": {"a": 1}}}},
        {"m": {"Not A Name": {"sent": {"a": 1}}}},
        {"m": {"shop": {"sent": {"a" * 301: 1}}}},
    ],
)
def test_what_is_no_note_is_refused(methods: object) -> None:
    with pytest.raises(ValueError, match="not a document of consumers"):
        usage.decode(json.dumps({"methods": methods}).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="not a document of consumers"):
        usage.decode(content)
