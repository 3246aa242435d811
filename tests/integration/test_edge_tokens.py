"""Nobody gets in with a token that identity did not issue, or by writing into headers who they are."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

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

#: A key that identity does not know.
FOREIGN_KEY = ECKey.generate_key("P-256")

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


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token, unchecked."""
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]
    )
    return header, claims


def encoded(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def signed(token: str, *, header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None) -> str:
    """The token with some values replaced, signed with a key that identity does not know."""
    old_header, old_claims = parts(token)
    return jwt.encode(old_header | (header or {}), old_claims | (claims or {}), FOREIGN_KEY, algorithms=["ES256"])


def unsigned(token: str) -> str:
    header, claims = parts(token)
    return f"{encoded(header | {'alg': 'none'})}.{encoded(claims)}."


def with_another_payload(token: str) -> str:
    """The genuine signature under claims that ask for more."""
    header, _, signature = token.split(".")
    _, claims = parts(token)
    return f"{header}.{encoded(claims | {'sub': 'operator', 'scope': 'mesh.operate catalog.read'})}.{signature}"


def with_a_critical_extension(token: str) -> str:
    header, _ = parts(token)
    return f"{encoded(header | {'crit': ['x'], 'x': 1})}.{token.partition('.')[2]}"


def expired(token: str) -> str:
    _, claims = parts(token)
    return signed(token, claims={"iat": claims["iat"] - 900, "exp": claims["exp"] - 900})


def signed_with_the_public_key(token: str) -> str:
    """HS256 with a public text as the secret: what a verifier that believes `alg` would take."""
    header, claims = parts(token)
    key = OctKey.import_key(json.dumps(FOREIGN_KEY.as_dict(private=False)).encode())
    return jwt.encode(header | {"alg": "HS256"}, claims, key, algorithms=["HS256"])


def bringing_its_key(token: str) -> str:
    return signed(token, header={"jwk": FOREIGN_KEY.as_dict(private=False), "jku": "http://127.0.0.1:1/jwks"})


HOSTILE: dict[str, Callable[[str], str]] = {
    "garbage": lambda _: "garbage",
    "three dots": lambda _: "a.b.c",
    "a part missing": lambda token: token.rpartition(".")[0],
    "a bit flipped": lambda token: token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:],
    "another payload": with_another_payload,
    "no signature": unsigned,
    "a foreign key": lambda token: signed(token),
    "a foreign key with another name": lambda token: signed(token, header={"kid": "elsewhere"}),
    "a key of its own": bringing_its_key,
    "HS256": signed_with_the_public_key,
    "expired": expired,
    "another audience": lambda token: signed(token, claims={"aud": "elsewhere"}),
    "another issuer": lambda token: signed(token, claims={"iss": "elsewhere"}),
    "another type": lambda token: signed(token, header={"typ": "JWT"}),
    "a refresh token's type": lambda token: signed(token, header={"typ": "rt+jwt"}),
    "a critical extension": lambda token: (
        f"{encoded(parts(token)[0] | {'crit': ['x'], 'x': 1})}.{token.split('.', 1)[1]}"
    ),
    "twice": lambda token: f"{token}, Bearer {token}",
    "a space in it": lambda token: token.replace(".", ". ", 1),
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_token_is_unauthenticated_at_the_gateway(edge: Edge, hostile: str) -> None:
    token = HOSTILE[hostile](edge.token("catalog.read"))

    answer = edge.refused(LIST, token, http=HTTP[UNAUTHENTICATED])

    assert UNAUTHENTICATED == answer.code
    assert answer.reason.startswith("TOKEN_")
    assert not token or token not in answer.message


def test_an_expired_token_is_told_from_a_bad_one(edge: Edge) -> None:
    token = expired(edge.token("catalog.read"))

    assert "TOKEN_EXPIRED" == edge.refused(LIST, token, http=HTTP[UNAUTHENTICATED]).reason


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
