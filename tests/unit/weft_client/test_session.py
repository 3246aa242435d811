"""Signing in, and staying signed in: one renewal for all, before the token ends."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from svc.contract_tests.mock import Mock
from svc.contract_tests.session import Provider
from weft.identity.v1 import identity_pb2
from weft_client import AsyncWeft, Weft, errors
from weft_client.kinds import Failure, Unavailable
from weft_client.session import Login, SignedIn

ANN = {"user": "ann@example.com", "password": "correct horse"}
LOGIN = {"email": "ann@example.com", "password": "correct horse"}
REFRESH_1 = "refresh-token-number-1"
REFRESH_2 = "refresh-token-number-2"


@pytest.fixture
def identity(provider: Provider) -> Mock:
    return provider("weft.identity.v1.IdentityService")


def session(access: str, refresh: str = REFRESH_1, lifetime: str = "300s") -> dict[str, Any]:
    return {"name": "sessions/s1", "access_token": access, "refresh_token": refresh, "expires_in": lifetime}


def tokens(identity: Mock, method: str = "GetUser") -> list[str]:
    return [call.token for call in identity.calls if call.method == method]


def test_the_first_call_signs_in_and_the_others_go_on_with_it(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one"))
    identity.expects("GetUser", name="users/ann").returns(name="users/ann").times(2)

    with Weft(identity.address, **ANN) as weft:
        weft.identity.get_user("users/ann")
        weft.identity.get_user("users/ann")
    assert ["one", "one"] == tokens(identity)
    assert [""] == tokens(identity, "CreateSession")


def test_many_threads_share_one_sign_in(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one"))
    identity.expects("GetUser", name="users/ann").returns(name="users/ann").times(8)

    with Weft(identity.address, **ANN) as weft, ThreadPoolExecutor(8) as threads:
        list(threads.map(weft.identity.get_user, ["users/ann"] * 8))
    assert {"one"} == set(tokens(identity))


def test_many_tasks_share_one_sign_in(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one"))
    identity.expects("GetUser", name="users/ann").returns(name="users/ann").times(8)

    async def calls() -> None:
        async with AsyncWeft(identity.address, **ANN) as weft:
            await asyncio.gather(*(weft.identity.get_user("users/ann") for _ in range(8)))

    asyncio.run(calls())
    assert {"one"} == set(tokens(identity))


def test_a_token_that_was_refused_is_renewed_and_the_call_sent_again(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one"))
    identity.expects("GetUser", name="users/ann").fails("UNAUTHENTICATED", "TOKEN_REVOKED")
    identity.expects("RefreshSession", refresh_token=REFRESH_1).returns(**session("two", REFRESH_2))
    identity.expects("GetUser", name="users/ann").returns(name="users/ann")

    with Weft(identity.address, **ANN) as weft:
        assert "users/ann" == weft.identity.get_user("users/ann").name
    assert ["one", "two"] == tokens(identity)


def test_a_session_that_has_ended_is_signed_in_anew(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one")).times(2)
    identity.expects("GetUser", name="users/ann").fails("UNAUTHENTICATED", "TOKEN_REVOKED").times(2)
    identity.expects("RefreshSession", refresh_token=REFRESH_1).fails("UNAUTHENTICATED", "REFRESH_TOKEN_REUSED")

    # Refused twice: no third token is tried, whoever keeps refusing has a reason.
    with Weft(identity.address, **ANN) as weft, pytest.raises(errors.TokenRevoked):
        weft.identity.get_user("users/ann")


def test_a_wrong_password_is_told_and_not_tried_again(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).fails("UNAUTHENTICATED", "BAD_CREDENTIALS")

    with Weft(identity.address, **ANN) as weft, pytest.raises(errors.BadCredentials):
        weft.identity.get_user("users/ann")


def test_a_user_signs_out(identity: Mock) -> None:
    identity.expects("CreateSession", **LOGIN).returns(**session("one"))
    identity.expects("GetUser", name="users/ann").returns(name="users/ann")
    identity.expects("DeleteSession", name="sessions/s1").returns()

    with Weft(identity.address, **ANN) as weft:
        weft.sign_out()
        weft.identity.get_user("users/ann")
        weft.sign_out()
        weft.sign_out()
    assert ["one"] == tokens(identity, "DeleteSession")


def test_a_function_has_the_newest_token(identity: Mock) -> None:
    identity.expects("GetUser", name="users/ann").fails("UNAUTHENTICATED", "TOKEN_EXPIRED")
    identity.expects("GetUser", name="users/ann").returns(name="users/ann")
    newest = iter(["old", "new"])

    with Weft(identity.address, token=lambda: next(newest)) as weft:
        weft.identity.get_user("users/ann")
    assert ["old", "new"] == tokens(identity)


def test_a_given_token_that_is_refused_is_not_tried_twice(identity: Mock) -> None:
    identity.expects("GetUser", name="users/ann").fails("UNAUTHENTICATED", "TOKEN_EXPIRED")

    with Weft(identity.address, token="old") as weft, pytest.raises(errors.TokenExpired):
        weft.identity.get_user("users/ann")


def keeping(*answers: Callable[[], identity_pb2.Session]) -> tuple[SignedIn, list[str]]:
    """A session whose answers are these, and the methods that were asked."""
    asked: list[str] = []
    left = iter(answers)

    def send(method: Any, request: Any, timeout: float | None) -> identity_pb2.Session:
        asked.append(method.name)
        return next(left)()

    return SignedIn(Login("ann@example.com", "secret"), send), asked


def answer(access: str, seconds: int) -> identity_pb2.Session:
    made = identity_pb2.Session(access_token=access, refresh_token=REFRESH_1)
    made.expires_in.FromSeconds(seconds)
    return made


def away() -> identity_pb2.Session:
    raise Unavailable(Failure("m", "UNAVAILABLE", "away"))


def due(signed: SignedIn, *, over: bool = False) -> None:
    """As if the token's time of renewal had come; its end, too, where it is `over`."""
    now = time.monotonic()
    assert signed.held is not None
    signed.held = replace(signed.held, renew_at=now, expires_at=now if over else now + 60)


def test_a_token_is_renewed_before_it_ends() -> None:
    signed, asked = keeping(lambda: answer("one", 300), lambda: answer("two", 300))

    assert ["one", "one"] == [signed.token(None), signed.token(None)]
    due(signed)
    assert "two" == signed.token(None)
    assert ["CreateSession", "RefreshSession"] == asked


def test_who_comes_while_a_good_token_is_renewed_goes_on_with_it() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> identity_pb2.Session:
        begun.set()
        assert go_on.wait(30)
        return answer("two", 300)

    signed, _ = keeping(lambda: answer("one", 300), slowly)
    signed.token(None)
    due(signed)
    renewing = threading.Thread(target=signed.token, args=(None,))
    renewing.start()
    assert begun.wait(30)

    assert "one" == signed.token(None)
    go_on.set()
    renewing.join(30)
    assert "two" == signed.token(None)


def test_who_needs_a_token_waits_no_longer_than_its_deadline() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> identity_pb2.Session:
        begun.set()
        assert go_on.wait(30)
        return answer("one", 300)

    signed, _ = keeping(slowly)
    renewing = threading.Thread(target=signed.token, args=(None,))
    renewing.start()
    assert begun.wait(30)

    with pytest.raises(errors.DeadlineExceeded):
        signed.token(0.01)
    go_on.set()
    renewing.join(30)


def test_a_renewal_that_fails_costs_nothing_while_the_token_is_good() -> None:
    signed, asked = keeping(lambda: answer("one", 300), away, away)
    signed.token(None)
    due(signed)

    assert ["one", "one"] == [signed.token(None), signed.token(None)]
    assert ["CreateSession", "RefreshSession"] == asked
    due(signed, over=True)
    with pytest.raises(errors.Unavailable):
        signed.token(None)


def test_a_secret_is_in_no_text_of_what_holds_it() -> None:
    signed, _ = keeping(lambda: answer("access-token", 300))
    signed.token(None)

    assert "secret" not in repr(Login("ann@example.com", "secret"))
    assert "token" not in repr(signed.held).replace("refresh", "")
