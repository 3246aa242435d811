"""Tokens: ours are read, and every way to bend one is refused."""

import json
from collections.abc import Callable, Mapping

import pytest
from joserfc.jwk import ECKey

from svc.chassis import tokens
from svc.chassis.context import Principal
from svc.chassis.errors import Unauthenticated, Unavailable
from svc.chassis.ids import new_id
from svc.chassis.tokens import TokenVerifier
from svc.identity.model import SessionRecord
from svc.identity.tokens import TokenSigner
from tests.hostile_tokens import ACCEPTED, HOSTILE, Case, Mint
from tests.unit.svc.chassis.instance import NOW_S, Issuer, StandingClock, b64
from weft_protos.access_token import SCHEME


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def verifier(issuer: Issuer, clock: StandingClock) -> TokenVerifier:
    verifier = TokenVerifier(clock)
    verifier.update(issuer.jwks())
    return verifier


def refusal(verifier: TokenVerifier, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token)
    return caught.value.reason


def test_a_token_of_identity_names_its_principal(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token(sub="bob_1-x", scope="orders.read orders.write")

    expected = Principal("bob_1-x", frozenset({"orders.read", "orders.write"}), "session-1", None, token)
    assert expected == verifier.verify(token)


def test_a_token_may_have_no_scope(verifier: TokenVerifier, issuer: Issuer) -> None:
    assert frozenset() == verifier.verify(issuer.token(scope="")).scopes


def test_a_delegated_token_names_the_operator(verifier: TokenVerifier, issuer: Issuer) -> None:
    assert "operator" == verifier.verify(issuer.token(act={"sub": "operator"})).actor


def test_a_principal_does_not_show_its_token(verifier: TokenVerifier, issuer: Issuer) -> None:
    token = issuer.token()

    assert token not in repr(verifier.verify(token))


def bearer(cases: Mapping[str, Case]) -> list[str]:
    """The cases in which a verifier is asked at all."""
    mint = Mint("key-1", Issuer().key)
    made = {name: case.make(mint) for name, case in cases.items()}
    return [name for name, values in made.items() if len(values) == 1 and values[0].startswith(SCHEME)]


@pytest.mark.parametrize("name", bearer(HOSTILE))
def test_a_hostile_token_is_refused(verifier: TokenVerifier, issuer: Issuer, name: str) -> None:
    (value,) = HOSTILE[name].make(Mint(issuer.kid, issuer.key, now=NOW_S))

    assert HOSTILE[name].reason == refusal(verifier, value.removeprefix(SCHEME))


@pytest.mark.parametrize("name", bearer(ACCEPTED))
def test_a_sound_token_is_taken(verifier: TokenVerifier, issuer: Issuer, name: str) -> None:
    (value,) = ACCEPTED[name].make(Mint(issuer.kid, issuer.key, now=NOW_S))

    assert NOW_S - 100 <= verifier.verify(value.removeprefix(SCHEME)).issued


@pytest.mark.parametrize("exp", [NOW_S, NOW_S - 1])
def test_a_token_that_lives_for_no_time_is_refused(verifier: TokenVerifier, issuer: Issuer, exp: int) -> None:
    assert "TOKEN_INVALID" == refusal(verifier, issuer.token(exp=exp))


@pytest.mark.parametrize("text", ["", "\n", "ä", " a.b.c", "a.b.c\n", "a.b.c\0"])
def test_what_no_header_could_carry_is_refused_too(verifier: TokenVerifier, issuer: Issuer, text: str) -> None:
    assert "TOKEN_INVALID" == refusal(verifier, text)
    assert "TOKEN_INVALID" == refusal(verifier, issuer.token() + (text or "\t"))


def test_clocks_may_differ_by_five_seconds(verifier: TokenVerifier, issuer: Issuer, clock: StandingClock) -> None:
    verifier.verify(issuer.token(iat=NOW_S + 5, exp=NOW_S + 305))
    clock.move(304)

    verifier.verify(issuer.token())

    clock.move(1)
    assert "TOKEN_EXPIRED" == refusal(verifier, issuer.token())


def test_a_token_verified_before_still_expires(verifier: TokenVerifier, issuer: Issuer, clock: StandingClock) -> None:
    token = issuer.token()
    verifier.verify(token)

    clock.move(305)

    assert "TOKEN_EXPIRED" == refusal(verifier, token)


def test_a_new_key_is_used_and_one_that_has_gone_is_not(verifier: TokenVerifier, issuer: Issuer) -> None:
    old, successor = issuer.token(), Issuer("key-2")
    verifier.verify(old)

    verifier.update(issuer.jwks(successor))
    assert "alice" == verifier.verify(successor.token()).subject
    assert "alice" == verifier.verify(old).subject

    verifier.update(successor.jwks())
    assert "TOKEN_INVALID" == refusal(verifier, old)


def test_before_the_first_key_set_nobody_is_refused_for_good(issuer: Issuer, clock: StandingClock) -> None:
    verifier = TokenVerifier(clock)
    assert not verifier.wait_loaded(0)

    with pytest.raises(Unavailable) as caught:
        verifier.verify(issuer.token())

    assert ("KEYS_NOT_LOADED", 1.0) == (caught.value.reason, caught.value.retry_after)
    verifier.update(issuer.jwks())
    assert verifier.wait_loaded(0)


def _private(issuer: Issuer) -> bytes:
    return json.dumps({"keys": [{**issuer.jwk(), "d": b64(bytes(32))}]}).encode()


KEY_SETS: dict[str, Callable[[Issuer], bytes | None]] = {
    "none": lambda issuer: None,
    "empty": lambda issuer: b"",
    "no keys": lambda issuer: b'{"keys": []}',
    "not a set": lambda issuer: b"[]",
    "not JSON": lambda issuer: b"\xff{",
    "huge": lambda issuer: b" " * 70_000 + issuer.jwks(),
    "too many": lambda issuer: issuer.jwks(*(Issuer(f"k{number}") for number in range(16))),
    "symmetric": lambda issuer: b'{"keys": [{"kty": "oct", "kid": "key-1", "k": "AAAA"}]}',
    "private": _private,
    "no kid": lambda issuer: json.dumps({"keys": [{**issuer.jwk(), "kid": None}]}).encode(),
    "one kid twice": lambda issuer: issuer.jwks(Issuer()),
    "not on the curve": lambda issuer: json.dumps({"keys": [{**issuer.jwk(), "x": b64(bytes(32))}]}).encode(),
    "no y": lambda issuer: json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "x": "AA"}]}).encode(),
}


@pytest.mark.parametrize("document", KEY_SETS.values(), ids=KEY_SETS.keys())
def test_a_broken_key_set_leaves_the_last_good_one(
    verifier: TokenVerifier, issuer: Issuer, document: Callable[[Issuer], bytes | None]
) -> None:
    verifier.update(document(issuer))

    assert "alice" == verifier.verify(issuer.token(jti="another")).subject


def test_the_memory_of_verified_tokens_is_bounded(
    verifier: TokenVerifier, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "CACHE_ENTRIES", 2)

    for number in range(5):
        verifier.verify(issuer.token(jti=f"t{number}"))

    assert 2 == len(verifier._verified)


def test_what_identity_issues_is_what_services_accept() -> None:
    class Ring:
        def __init__(self) -> None:
            self.key = ECKey.generate_key("P-256", auto_kid=True)

        def signing(self) -> tuple[str, ECKey]:
            return self.key.kid or "", self.key

    ring, clock = Ring(), StandingClock()
    record = SessionRecord(new_id(), "alice", "operator", (), clock.now(), clock.now())
    verifier = TokenVerifier(clock)
    verifier.update(json.dumps({"keys": [{**ring.key.as_dict(private=False), "alg": "ES256", "use": "sig"}]}).encode())

    principal = verifier.verify(TokenSigner(ring).issue(record, ["orders.read", "mesh.operate"], at=clock.now()))

    assert ("alice", record.id, "operator") == (principal.subject, principal.session, principal.actor)
    assert {"orders.read", "mesh.operate"} == principal.scopes
