"""No header of one caller makes the instance refuse the calls of others that share the gateway's connection to it.

A gRPC server that cannot read a header remembers that together with the name, for as long as the connection's HPACK
table holds the name: every later call with a header of that name fails, whatever its value.
"""

import pytest
from hyperframe.frame import DataFrame

from tests.edge_attacks import Attacker
from tests.integration.edge_calls import OK, Json

from .served import Door
from .served import door as door
from .test_requests import FRAME, GET, posted

#: What a server cannot read, and what it can.
POISONS = {
    "x-a-bin": ("!", "QUJD"),
    "grpc-trace-bin": ("!", "QUJD"),
    "grpc-tags-bin": ("!", "QUJD"),
    "grpc-server-stats-bin": ("!", "QUJD"),
    "grpc-previous-rpc-attempts": ("x", "1"),
    "grpc-retry-pushback-ms": ("x", "1"),
    "grpc-status": ("x", "0"),
    "grpc-internal-encoding-request": ("zz", "gzip"),
    "grpc-timeout": ("x", "9S"),
    "grpc-encoding": ("zz", "gzip"),
}


def _still_served(door: Door, name: str) -> None:
    good = {"te": "trailers", name: POISONS[name][1]}
    assert OK == posted(door, FRAME, "application/grpc", good).code


@pytest.mark.parametrize("name", POISONS)
@pytest.mark.parametrize("media", ["application/grpc", "application/grpc-web"])
def test_a_header_of_a_grpc_call_spoils_no_other_call(door: Door, media: str, name: str) -> None:
    posted(door, FRAME, media, {"te": "trailers", name: POISONS[name][0]})

    _still_served(door, name)


@pytest.mark.parametrize("name", POISONS)
def test_a_header_of_a_json_call_spoils_no_other_call(door: Door, name: str) -> None:
    (json,) = (wire for wire in door.wires if isinstance(wire, Json))

    assert OK == json.call(GET, door.token(), {name: POISONS[name][0]}).code
    _still_served(door, name)


@pytest.mark.parametrize("name", POISONS)
def test_a_trailer_spoils_no_other_call(door: Door, name: str) -> None:
    attacker, calls = Attacker(door.address), door.handled
    start = ((":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", GET.path), ("te", "trailers"))
    own = (("content-type", "application/grpc"), ("authorization", f"Bearer {door.token()}"))
    attacker.send(attacker.headers(1, (*start, *own), "END_HEADERS") + DataFrame(1, FRAME).serialize())
    attacker.send(attacker.headers(1, ((name, POISONS[name][0]),)))
    ending = attacker.read(lambda found: bool(found.statuses) or found.refused)
    attacker.close()

    # Without its trailers the request is sound.
    assert ("200", calls + 1) == (ending.statuses.get(1), door.handled)
    _still_served(door, name)
