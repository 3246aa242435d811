"""A service where hops are encrypted: who made one is known to the handler, and not every part may."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from lb.credentials import Credentials, asks_for
from tests.identities import Identities
from tests.unit.svc.chassis.instance import GET_STOCK, Failure, Instance
from tests.unit.svc.chassis.test_server import failing
from weft.orders.v1 import inventory_pb2
from weft_protos import identity
from weft_protos.identity import Identity

ORDERS, CATALOG, WORKER = identity.service("orders"), identity.service("catalog"), Identity("worker", "email")
REQUEST = inventory_pb2.GetStockRequest(name="stock/00000000-0000-4000-8000-000000000001").SerializeToString()


@pytest.fixture
def mesh(tmp_path: Path) -> Identities:
    return Identities(tmp_path, ORDERS, CATALOG, WORKER, identity.GATEWAY, identity.SUPERVISOR)


@pytest.fixture
def instance(mesh: Identities) -> Iterator[Instance]:
    made = Instance(credentials=Credentials(mesh.of(ORDERS)))
    yield made
    made.close()


def as_(instance: Instance, mesh: Identities, part: Identity) -> Instance:
    """The instance as a part reaches it."""
    instance.channel.close()
    options = (asks_for(ORDERS), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
    shown = Credentials(mesh.of(part)).client()
    instance.channel = grpc.secure_channel(f"127.0.0.1:{instance.port}", shown, options=options)
    return instance


@pytest.mark.parametrize("part", [identity.GATEWAY, CATALOG])
def test_a_handler_knows_which_part_made_the_hop(instance: Instance, mesh: Identities, part: Identity) -> None:
    as_(instance, mesh, part).raw(GET_STOCK, REQUEST)

    assert [part] == [call.peer for call in instance.behaviour.calls]


@pytest.mark.parametrize("part", [WORKER, identity.SUPERVISOR])
def test_a_part_that_calls_no_service_is_refused_whatever_token_it_has(
    instance: Instance, mesh: Identities, part: Identity
) -> None:
    refusal: Failure = failing(as_(instance, mesh, part), GET_STOCK, REQUEST)
    info = refusal.detail(error_details_pb2.ErrorInfo)

    assert ("PERMISSION_DENIED", "CALLER_UNKNOWN", part.uri) == (refusal.code, info.reason, info.metadata["caller"])
    assert ("service: CALLER_UNKNOWN", "orders") == (info.metadata["rule"], info.metadata["hop"])
    assert [] == instance.behaviour.calls


def test_the_supervisor_may_ask_whether_it_is_well(instance: Instance, mesh: Identities) -> None:
    check = as_(instance, mesh, identity.SUPERVISOR).channel.unary_unary("/grpc.health.v1.Health/Check")
    answer = health_pb2.HealthCheckResponse.FromString(check(b"", timeout=5))

    assert health_pb2.HealthCheckResponse.NOT_SERVING == answer.status


def test_nobody_is_heard_in_clear(instance: Instance) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        instance.channel.unary_unary(GET_STOCK)(REQUEST, timeout=5)

    assert grpc.StatusCode.UNAVAILABLE is caught.value.code()


def test_in_clear_no_part_is_known() -> None:
    made = Instance()
    made.raw(GET_STOCK, REQUEST)
    made.close()

    assert [None] == [call.peer for call in made.behaviour.calls]
