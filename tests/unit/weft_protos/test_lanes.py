"""The document of lanes: what was written is read, and nothing else is."""

import json

import pytest

from weft_protos import lanes
from weft_protos.lanes import Lane

CANARY = Lane("canary", ("catalog", "orders"), percent=12.5, header="v2", claim="sub", value="alice")


def test_lanes_come_back_as_they_were_written() -> None:
    other = Lane("blue", ("identity",))

    assert (other, CANARY) == lanes.from_bytes(lanes.to_bytes([CANARY, other]))
    assert () == lanes.from_bytes(lanes.to_bytes([]))


def test_the_same_lanes_are_the_same_document() -> None:
    other = Lane("blue", ("identity",))

    assert lanes.to_bytes([CANARY, other]) == lanes.to_bytes([other, CANARY])


def test_a_lane_is_open_where_anybody_can_enter() -> None:
    services = ("orders",)

    assert not Lane("a", services).is_open
    assert all(
        lane.is_open
        for lane in (
            Lane("a", services, percent=0.1),
            Lane("a", services, header="x"),
            Lane("a", services, claim="sub", value="x"),
        )
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": "Canary"}, "is not a lane"),
        ({"name": "1st"}, "is not a lane"),
        ({"name": "a" * 32}, "is not a lane"),
        ({"name": "a\n"}, "is not a lane"),
        ({"services": []}, "at least one service"),
        ({"services": ["orders@x"]}, "is not a service"),
        ({"percent": 100.5}, "is not a percentage"),
        ({"percent": -1}, "is not a percentage"),
        ({"percent": float("nan")}, "is not a percentage"),
        ({"percent": True}, "a percentage is a number"),
        ({"header": "two words"}, "cannot be the value"),
        ({"header": "a\r\nb"}, "cannot be the value"),
        ({"claim": "sub"}, "needs its value"),
        ({"value": "alice"}, "needs its value"),
        ({"claim": "exp", "value": "1"}, "no lane can choose by the claim"),
        ({"claim": "sub", "value": "a b"}, "cannot be a claim's value"),
        ({"name": 1}, "are text"),
        ({"services": [1]}, "are text"),
        ({"services": "orders"}, "without services"),
    ],
)
def test_a_lane_that_nobody_could_obey_is_refused(fields: dict[str, object], complaint: str) -> None:
    row = {"name": "canary", "services": ["orders"]} | fields

    with pytest.raises(ValueError, match=complaint):
        lanes.from_bytes(json.dumps({"format": 1, "lanes": [row]}).encode())


@pytest.mark.parametrize(
    "document", [b"", b"{", b"[]", b'{"format": 2, "lanes": []}', b'{"format": 1}', b"[" * 100_000]
)
def test_what_is_no_document_of_lanes_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match=r"not JSON|lanes of format"):
        lanes.from_bytes(document)


def test_a_lane_is_there_once_and_there_are_not_too_many() -> None:
    with pytest.raises(ValueError, match="twice"):
        lanes.from_bytes(lanes.to_bytes([CANARY, CANARY]))
    with pytest.raises(ValueError, match="not up to"):
        lanes.from_bytes(lanes.to_bytes([Lane(f"l{number}", ("orders",)) for number in range(lanes.LANES_MAX + 1)]))
