"""One table of tokens, each signed by the mesh's own key: refused at the gateway and at an instance, for one reason."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from deploy.supervisor.mesh import Mesh
from svc.chassis.clock import SystemClock
from tests.hostile_tokens import ACCEPTED, HOSTILE, Mint
from tests.integration import signing_keys
from weft_protos import grounds

pytestmark = pytest.mark.calls

METHOD = "/weft.catalog.v1.CatalogService/ListProducts"
CALL_S = 20.0
#: Reason and hop of a refusal; of an answer that is none, nothing.
Outcome = tuple[str, str]
LET_IN: Outcome = ("", "")


@dataclass(frozen=True)
class Doors:
    """The two ways in."""

    gateway: Any
    instance: Any


@pytest.fixture(scope="module")
def signer(mesh: Mesh) -> Mint:
    return signing_keys.mint(mesh)


@pytest.fixture
def mint(signer: Mint) -> Mint:
    """The key at the present second."""
    return replace(signer, now=int(SystemClock().now().timestamp()))


@pytest.fixture(scope="module")
def doors(mesh: Mesh) -> Iterator[Doors]:
    addresses = (mesh.gateway, mesh.status().process("catalog-1").address)
    channels = [grpc.insecure_channel(address, options=[("grpc.enable_retries", 0)]) for address in addresses]
    yield Doors(*channels)
    for channel in channels:
        channel.close()


def outcome(channel: Any, values: tuple[str, ...]) -> Outcome:
    metadata = tuple(("authorization", value) for value in values)
    try:
        channel.unary_unary(METHOD)(b"", metadata=metadata, timeout=CALL_S)
    except grpc.RpcError as error:
        return refused(error, values)
    return LET_IN


def refused(error: Any, values: tuple[str, ...]) -> Outcome:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    info = error_details_pb2.ErrorInfo()
    assert (grpc.StatusCode.UNAUTHENTICATED, True) == (error.code(), status.details[0].Unpack(info))
    # Nobody is told the token that they sent; a log of answers must not be worth stealing.
    assert not any(len(value) > 100 and value.removeprefix("Bearer ") in status.message for value in values)
    return info.reason, info.metadata[grounds.HOP]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused_at_both_doors(doors: Doors, mint: Mint, name: str) -> None:
    case = HOSTILE[name]
    values = case.make(mint)

    hop = "catalog" if case.instance_only else "gateway"
    assert ((case.reason, hop), (case.reason, "catalog")) == (
        outcome(doors.gateway, values),
        outcome(doors.instance, values),
    )


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_sound_token_is_let_in_at_both_doors(doors: Doors, mint: Mint, name: str) -> None:
    values = ACCEPTED[name].make(mint)

    assert (LET_IN, LET_IN) == (outcome(doors.gateway, values), outcome(doors.instance, values))


def test_the_table_is_tried_with_the_key_that_the_mesh_signs_with(mesh: Mesh, mint: Mint, operator: Any) -> None:
    header = operator.sign_in("catalog.read").access_token.partition(".")[0]

    assert mint.kid in base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)).decode()
