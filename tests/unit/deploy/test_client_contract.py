"""What the command line's client relies on at identity; `tests/contracts/weft-cli` has it, for identity to keep."""

from collections.abc import Iterator

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient, describe
from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider

USER = {"user_id": "contract-ann", "email": "contract-ann@example.com"}
SCOPE = "orders.read"


@pytest.fixture
def identity(provider: Provider) -> Mock:
    return provider("weft.identity.v1.IdentityService", consumer="weft-cli")


@pytest.fixture
def client(identity: Mock) -> Iterator[GatewayClient]:
    # Off the record: each operator has a password of its own.
    signing_in = identity.expects("CreateSession", email="op@example.com", password="secret")
    signing_in.returns(access_token="operator", expires_in="300s").off_record()
    client = GatewayClient(identity.address, email="op@example.com", password="secret")
    yield client
    client.close()


def test_the_operator_acts_for_a_user(identity: Mock, client: GatewayClient) -> None:
    asked = identity.given("a user", **USER).expects("DelegateSession", name="users/contract-ann", scopes=[SCOPE])
    asked.returns(user="users/contract-ann", scopes=[SCOPE], expires_in="300s").besides(access_token="ann")

    session = client.delegate("contract-ann", SCOPE)

    assert ("ann", [SCOPE]) == (session.access_token, list(session.scopes))
    assert ["", "operator"] == [call.token for call in identity.calls]


def test_nobody_acts_for_a_user_who_is_not_there(identity: Mock, client: GatewayClient) -> None:
    asked = identity.given("no user", user_id="contract-none").expects("DelegateSession", name="users/contract-none")
    asked.fails("NOT_FOUND", "USER_NOT_FOUND")

    with pytest.raises(grpc.RpcError) as refusal:
        client.delegate("contract-none")
    assert describe(refusal.value).endswith("reason USER_NOT_FOUND")
