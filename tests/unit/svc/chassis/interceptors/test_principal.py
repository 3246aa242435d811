"""Who is let in: the token's scopes against the contract's, over the wire."""

import pytest
from google.rpc import error_details_pb2

from tests.unit.svc.chassis.instance import (
    CREATE_SESSION,
    GET_STOCK,
    Failure,
    Instance,
    Issuer,
)
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import inventory_pb2


def refused(instance: Instance, **options: object) -> Failure:
    with pytest.raises(Failure) as caught:
        instance.get_stock(**options)
    assert [] == instance.behaviour.requests
    return caught.value


def test_a_handler_is_told_who_calls(instance: Instance) -> None:
    instance.get_stock(token=instance.issuer.token(sub="bob", act={"sub": "operator"}))

    caller = instance.behaviour.calls[0].caller
    assert ("bob", "operator", "session-1") == (caller.subject, caller.actor, caller.session)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Token"])
def test_the_scheme_is_read_as_the_gateway_reads_it(instance: Instance, scheme: str) -> None:
    header = (("authorization", f"{scheme} {instance.issuer.token()}"),)

    assert "TOKEN_MISSING" == refused(instance, token="", metadata=header).reason


def test_without_a_token_nobody_is_let_in(instance: Instance) -> None:
    failed = refused(instance, token="")

    assert ("UNAUTHENTICATED", "TOKEN_MISSING") == (failed.code, failed.reason)


def test_identity_headers_are_no_token(instance: Instance) -> None:
    headers = (("x-user", "operator"), ("x-scopes", "inventory.read"), ("x-weft-subject", "operator"))

    assert "TOKEN_MISSING" == refused(instance, token="", metadata=headers).reason


def test_a_bad_token_is_refused(instance: Instance) -> None:
    failed = refused(instance, token=Issuer().token())

    assert ("UNAUTHENTICATED", "TOKEN_INVALID") == (failed.code, failed.reason)


def test_an_expired_token_is_told_apart(instance: Instance) -> None:
    token = instance.issuer.token()
    instance.clock.move(400)

    failed = refused(instance, token=token)

    assert ("UNAUTHENTICATED", "TOKEN_EXPIRED") == (failed.code, failed.reason)


@pytest.mark.parametrize("value", ["", "Bearer", "Basic dTpw", "Token x"])
def test_another_scheme_is_as_good_as_no_token(instance: Instance, value: str) -> None:
    assert "TOKEN_MISSING" == refused(instance, token="", metadata=(("authorization", value),)).reason


def test_two_tokens_are_refused(instance: Instance) -> None:
    second = (("authorization", f"Bearer {instance.issuer.token(sub='bob')}"),)

    assert "TOKEN_INVALID" == refused(instance, metadata=second).reason


def test_without_the_scope_the_refusal_names_it(instance: Instance) -> None:
    failed = refused(instance, token=instance.issuer.token(scope="orders.read inventory.write"))

    info = failed.detail(error_details_pb2.ErrorInfo)
    assert ("PERMISSION_DENIED", "SCOPE_MISSING") == (failed.code, info.reason)
    assert {"scopes": "inventory.read", "method": GET_STOCK.removeprefix("/")}.items() <= dict(info.metadata).items()


def test_a_stranger_learns_nothing_of_what_was_wrong_with_the_body(instance: Instance) -> None:
    with pytest.raises(Failure) as caught:
        instance.raw(GET_STOCK, b"\xff\xff", token="")

    assert "UNAUTHENTICATED" == caught.value.code


def test_without_keys_the_answer_is_unavailable_and_worth_a_retry() -> None:
    blind = Instance(keys=False)

    failed = refused(blind)

    pushback = failed.trailers["grpc-retry-pushback-ms"]
    assert ("UNAVAILABLE", "KEYS_NOT_LOADED", "1000") == (failed.code, failed.reason, pushback)
    blind.close()


def session(instance: Instance, **options: object) -> None:
    instance.behaviour.do = lambda _request, _call: identity_pb2.Session()
    request = identity_pb2.CreateSessionRequest(email="alice@example.com", password="correct horse")
    instance.call(CREATE_SESSION, request, **options)


def test_a_public_method_asks_for_no_token(instance: Instance) -> None:
    session(instance, token="")

    assert instance.behaviour.calls[0].principal is None


def test_a_public_method_still_reads_a_good_token(instance: Instance) -> None:
    session(instance, token=instance.issuer.token(scope=""))

    assert "alice" == instance.behaviour.calls[0].caller.subject


def test_a_public_method_ignores_a_bad_token(instance: Instance) -> None:
    session(instance, token=Issuer().token())

    assert instance.behaviour.calls[0].principal is None


def test_a_write_scope_is_no_read_scope(instance: Instance) -> None:
    request = inventory_pb2.BatchGetStockRequest(names=["stock/a"])

    with pytest.raises(Failure) as caught:
        instance.call(
            "/weft.orders.v1.InventoryService/BatchGetStock",
            request,
            token=instance.issuer.token(scope="inventory.write"),
        )

    assert "SCOPE_MISSING" == caught.value.reason
