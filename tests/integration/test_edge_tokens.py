"""Nobody gets in with a token that identity did not issue, or by writing into headers who they are."""

from dataclasses import replace

import pytest

from deploy.supervisor.mesh import Mesh
from svc.chassis.clock import SystemClock
from tests.hostile_tokens import HOSTILE, Mint
from tests.integration import signing_keys
from tests.integration.edge_calls import (
    DENIED,
    HTTP,
    INVALID,
    OK,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
    Edge,
    Target,
    method,
)
from tests.integration.edge_calls import edge as edge
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2

pytestmark = pytest.mark.calls

#: Headers by which a client could try to speak for the gateway or for somebody else.
FORGED = {
    "x-user": "operator",
    "x-scopes": "catalog.read identity.admin mesh.operate",
    "x-subject": "operator",
    "x-actor": "operator",
    "x-gw-why": "forged",
    "x-gw-status": "200",
    "x-gw-reason": "TOKEN_FORGED",
    "x-envoy-original-path": "/v1/sessions",
    "x-forwarded-for": "10.0.0.1",
}

LIST = Target.of(method("ListProducts"), catalog_pb2.ListProductsRequest(page_size=1))


#: One of each kind, for every wire; the whole table is tried natively, at gateway and instances (test_hostile_tokens).
KINDS = (
    "form: garbage",
    "form: three short parts",
    "form: signature left out",
    "form: space inside",
    "form: two, joined by a comma and the scheme",
    "signature: bit of the signature",
    "signature: signature of another token",
    "signature: alg none, no signature",
    "signature: HS256 with the public key",
    "signature: a key of another, the same kid",
    "signature: a key that it brings along",
    "header: kid unknown",
    "header: typ of an ID token",
    "header: typ of a refresh token",
    "header: crit unknown",
    "claims: aud of another",
    "claims: iss of another",
    "claims: exp long past",
)


@pytest.fixture(scope="module")
def signer(mesh: Mesh) -> Mint:
    return signing_keys.mint(mesh)


@pytest.fixture
def mint(signer: Mint) -> Mint:
    """The key that identity signs with, at the present second: nothing but what a case bends is wrong with a token."""
    return replace(signer, now=int(SystemClock().now().timestamp()))


def test_a_token_that_nobody_has_bent_is_let_in_on_every_wire(edge: Edge, mint: Mint) -> None:
    answers = edge.everywhere(LIST, mint.token())

    assert {OK} == {answer.code for answer in answers.values()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_token_is_unauthenticated_at_the_gateway(edge: Edge, mint: Mint, kind: str) -> None:
    case = HOSTILE[kind]
    (value,) = case.make(mint)
    token = value.removeprefix("Bearer ")

    answer = edge.refused(LIST, token, http=HTTP[UNAUTHENTICATED])

    assert (UNAUTHENTICATED, case.reason) == (answer.code, answer.reason)
    assert token not in answer.message


def test_a_refresh_token_is_no_access_token(edge: Edge) -> None:
    refresh = edge.operator.sign_in("catalog.read").refresh_token

    assert UNAUTHENTICATED == edge.refused(LIST, refresh, http=HTTP[UNAUTHENTICATED]).code


@pytest.mark.parametrize("scheme", ["Basic dTpw", "Token x", "Bearer"])
def test_another_scheme_is_unauthenticated(edge: Edge, scheme: str) -> None:
    answer = edge.refused(LIST, headers={"authorization": scheme}, http=HTTP[UNAUTHENTICATED])

    assert UNAUTHENTICATED == answer.code


def test_a_token_in_the_query_counts_for_nothing(edge: Edge) -> None:
    token = edge.token("catalog.read")
    target = Target(LIST.path, LIST.body, "GET", f"/v1/products?access_token={token}", None)

    (json_wire,) = (wire for wire in edge.wires if wire.name == "json")

    assert OK != json_wire.call(target).code


@pytest.fixture(scope="module")
def user(edge: Edge) -> str:
    return edge.new_user()


def test_forged_identity_headers_let_nobody_in(edge: Edge) -> None:
    plain = edge.refused(LIST, http=HTTP[UNAUTHENTICATED])
    forged = edge.refused(LIST, headers=FORGED, http=HTTP[UNAUTHENTICATED])

    assert plain.error == forged.error


def test_forged_identity_headers_add_no_scope(edge: Edge) -> None:
    token = edge.token("orders.read")

    plain = edge.refused(LIST, token, http=HTTP[DENIED])
    forged = edge.refused(LIST, token, FORGED, http=HTTP[DENIED])

    assert plain.error == forged.error


def test_forged_identity_headers_change_no_subject(edge: Edge, user: str) -> None:
    other = Target.of(method("GetUser"), identity_pb2.GetUserRequest(name="users/operator"))
    own = Target.of(method("GetUser"), identity_pb2.GetUserRequest(name=f"users/{user}"))
    token = edge.token(user=user)

    forged = edge.refused(other, token, FORGED, http=404)
    allowed = edge.everywhere(own, token, FORGED)

    assert edge.refused(other, token, http=404).error == forged.error
    assert [OK] * 4 == [answer.code for answer in allowed.values()]


def test_no_answer_shows_how_the_gateway_marks_its_refusals(edge: Edge) -> None:
    good = edge.everywhere(LIST, edge.token("catalog.read"), FORGED)
    refused = edge.everywhere(LIST, None, FORGED)

    for answer in (*good.values(), *refused.values()):
        assert [] == [name for name in answer.headers if name.startswith(("x-gw-", "x-envoy-"))]


@pytest.mark.parametrize(
    "url",
    [
        "/v1/products?page_size=1&filter=x",
        "/v1/products:batchGet?names=products/a",
        "/v1/products/%61",
    ],
)
def test_json_without_a_token_is_refused_however_its_path_is_written(edge: Edge, url: str) -> None:
    # The transcoder gives the path its method before the token is asked for.
    (json_wire,) = (wire for wire in edge.wires if wire.name == "json")

    answer = json_wire.call(Target(LIST.path, LIST.body, "GET", url, None))

    assert (UNAUTHENTICATED, "TOKEN_MISSING") == (answer.code, answer.reason)


@pytest.mark.parametrize(
    "url",
    [
        "/v1//products",
        "/v1/./products",
        "/v1/x/../products",
        "/v1/products/",
        "/v1/products//",
        "/v1/products/.",
        "/v1%2fproducts",
        "/V1/products",
        "/v1/products;x",
        "//v1/products",
    ],
)
def test_another_spelling_of_a_path_leads_nowhere_even_with_a_token(edge: Edge, url: str) -> None:
    # Limits by address go by the path: were another spelling the same method, it would not be counted.
    (json_wire,) = (wire for wire in edge.wires if wire.name == "json")

    answer = json_wire.call(Target(LIST.path, LIST.body, "GET", url, None), edge.token("catalog.read"))

    assert answer.http in (400, 404)
    assert answer.code in (INVALID, UNIMPLEMENTED)
