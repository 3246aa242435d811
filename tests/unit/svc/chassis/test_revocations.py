"""Revoked tokens: refused from the moment the list says so, also those verified before, and streams opened with one."""

import json

import pytest

from svc.chassis.errors import Unauthenticated
from svc.chassis.revocations import (
    BYTES_MAX,
    SESSIONS_MAX,
    SUBJECTS_MAX,
    Revocations,
    SubjectRevocation,
    encode,
    parse,
)
from svc.chassis.tokens import TokenVerifier
from tests.unit.svc.chassis.instance import NOW_S, Failure, Instance, Issuer, StandingClock, eventually
from weft.orders.v1 import orders_pb2

SESSION = Revocations(sessions={"session-1": NOW_S + 310})
SUSPENDED = Revocations(subjects={"alice": SubjectRevocation(NOW_S - 1000, suspended=True)})
BEFORE = Revocations(subjects={"alice": SubjectRevocation(NOW_S + 1)})
EVERYBODY = Revocations(before=NOW_S + 1)


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def verifier(issuer: Issuer, clock: StandingClock) -> TokenVerifier:
    verifier = TokenVerifier(clock)
    verifier.update(issuer.jwks())
    return verifier


def refusal(verifier: TokenVerifier, token: str) -> tuple[str, dict[str, str]]:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    return caught.value.reason, caught.value.metadata


CASES = {
    "session": (SESSION, "TOKEN_REVOKED", {"session": "session-1"}),
    "suspended": (SUSPENDED, "USER_SUSPENDED", {"subject": "alice"}),
    "issued before": (BEFORE, "TOKEN_REVOKED", {"subject": "alice"}),
    "everybody's": (EVERYBODY, "TOKEN_REVOKED", {"subject": "alice"}),
}


@pytest.mark.parametrize("verified_before", [False, True])
@pytest.mark.parametrize(("listed", "reason", "metadata"), CASES.values(), ids=CASES.keys())
def test_a_revoked_token_is_refused_also_where_it_was_verified_before(
    verifier: TokenVerifier,
    issuer: Issuer,
    *,
    listed: Revocations,
    reason: str,
    metadata: dict[str, str],
    verified_before: bool,
) -> None:
    token = issuer.token()
    if verified_before:
        verifier.verify(token)

    verifier.revoke(encode(listed))

    assert (reason, metadata) == refusal(verifier, token)
    # Nor does it get in the second time.
    assert (reason, metadata) == refusal(verifier, token)


def test_the_same_token_is_good_again_once_it_is_listed_no_more(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()
    verifier.revoke(encode(SUSPENDED))
    refusal(verifier, token)

    verifier.revoke(encode(Revocations()))

    assert "alice" == verifier.verify(token).subject


def test_another_session_and_another_user_are_left_alone(verifier: TokenVerifier, issuer: Issuer) -> None:
    verifier.revoke(encode(Revocations(SESSION.sessions, {"bob": SubjectRevocation(NOW_S + 1, suspended=True)})))

    assert "alice" == verifier.verify(issuer.token(sid="session-2")).subject


@pytest.mark.parametrize("listed", [BEFORE, EVERYBODY])
def test_a_token_issued_in_the_named_second_is_good(
    verifier: TokenVerifier, issuer: Issuer, listed: Revocations
) -> None:
    verifier.revoke(encode(listed))

    assert "TOKEN_REVOKED" == refusal(verifier, issuer.token(iat=NOW_S, exp=NOW_S + 300))[0]
    assert "alice" == verifier.verify(issuer.token(iat=NOW_S + 1, exp=NOW_S + 301)).subject


def test_while_suspended_no_token_is_good_however_new(verifier: TokenVerifier, issuer: Issuer) -> None:
    verifier.revoke(encode(SUSPENDED))

    assert "USER_SUSPENDED" == refusal(verifier, issuer.token(iat=NOW_S + 5, exp=NOW_S + 305))[0]


@pytest.mark.parametrize(("listed", "reason"), [(SUSPENDED, "USER_SUSPENDED"), (BEFORE, "TOKEN_REVOKED")])
def test_nobody_acts_for_others_once_they_are_shut_out_themselves(
    verifier: TokenVerifier, issuer: Issuer, listed: Revocations, reason: str
) -> None:
    token = issuer.token(sub="bob", sid="session-9", act={"sub": "alice"})
    verifier.verify(token)

    verifier.revoke(encode(listed))

    assert (reason, {"subject": "alice"}) == refusal(verifier, token)


def test_a_token_that_is_not_ours_is_not_told_that_its_user_is_suspended(
    verifier: TokenVerifier, issuer: Issuer
) -> None:
    verifier.revoke(encode(SUSPENDED))

    assert "TOKEN_INVALID" == refusal(verifier, Issuer().token())[0]


def test_new_keys_change_nothing_about_revocations(verifier: TokenVerifier, issuer: Issuer) -> None:
    verifier.revoke(encode(SESSION))

    verifier.update(issuer.jwks(Issuer("key-2")))

    assert "TOKEN_REVOKED" == refusal(verifier, issuer.token())[0]


BROKEN = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b"\xff{}",
    "a list": b"[]",
    "nothing in it": b"{}",
    "deep": b"[" * 100_000,
    "huge": b" " * BYTES_MAX + encode(SESSION),
    "sessions a list": b'{"sessions":[],"subjects":{}}',
    "a session's time a text": b'{"sessions":{"s":"1"},"subjects":{}}',
    "a session's time negative": b'{"sessions":{"s":-1},"subjects":{}}',
    "a session's name": b'{"sessions":{"s\\n":1},"subjects":{}}',
    "a subject's name": b'{"sessions":{},"subjects":{"":{"before":1,"suspended":true}}}',
    "a subject's entry a number": b'{"sessions":{},"subjects":{"a":1}}',
    "suspended a number": b'{"sessions":{},"subjects":{"a":{"before":1,"suspended":1}}}',
    "before missing": b'{"sessions":{},"subjects":{"a":{"suspended":true}}}',
    "everybody's time a text": b'{"sessions":{},"subjects":{},"before":"1"}',
    "before a fraction": b'{"sessions":{},"subjects":{"a":{"before":1.5,"suspended":true}}}',
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_list_leaves_the_last_good_one(verifier: TokenVerifier, issuer: Issuer, document: bytes) -> None:
    verifier.revoke(encode(SESSION))

    verifier.revoke(document)

    with pytest.raises(ValueError):  # noqa: PT011 - each rule has a text of its own
        parse(document)
    assert "TOKEN_REVOKED" == refusal(verifier, issuer.token())[0]


def test_what_is_written_is_what_is_read_and_later_fields_are_ignored() -> None:
    listed = Revocations(SESSION.sessions, {**SUSPENDED.subjects, "bob": SubjectRevocation(7)}, 5)
    later = json.loads(encode(listed)) | {"keys": []}
    later["subjects"]["bob"]["why"] = "?"

    assert listed == parse(encode(listed)) == parse(json.dumps(later).encode())


def test_the_longest_list_fits() -> None:
    sessions = {f"{number:064}": NOW_S for number in range(SESSIONS_MAX)}
    subjects = {f"{number:064}": SubjectRevocation(NOW_S) for number in range(SUBJECTS_MAX)}

    assert len(encode(Revocations(sessions, subjects, NOW_S))) < BYTES_MAX


def test_a_refusal_reaches_the_caller_with_its_reason(instance: Instance) -> None:
    instance.get_stock()
    instance.verifier.revoke(encode(SUSPENDED))

    with pytest.raises(Failure) as caught:
        instance.get_stock()

    assert ("UNAUTHENTICATED", "USER_SUSPENDED") == (caught.value.code, caught.value.reason)
    assert 1 == len(instance.behaviour.requests)


def test_a_stream_ends_once_its_token_is_revoked(instance: Instance) -> None:
    def watch(_request: object, call: object) -> object:
        yield orders_pb2.WatchOrderResponse()
        assert eventually(lambda: not call.is_active())  # type: ignore[attr-defined]

    instance.behaviour.watch = watch  # type: ignore[assignment]
    stream = instance.watch()
    next(stream)

    instance.verifier.revoke(encode(SESSION))

    with pytest.raises(Exception) as caught:  # noqa: PT011 - grpc's error has no public type
        next(stream)
    failed = Failure(caught.value)  # type: ignore[arg-type]
    assert ("UNAUTHENTICATED", "TOKEN_REVOKED") == (failed.code, failed.reason)
