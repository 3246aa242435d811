"""Access tokens are what the chassis' own verifier takes, and say what the session says."""

import base64
import json
from datetime import timedelta

import pytest
from joserfc.jwk import ECKey

from svc.chassis.errors import Unauthenticated
from svc.chassis.tokens import TokenVerifier
from svc.identity.keys import Seal, jwk_set, new_key
from svc.identity.model import ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, SESSION_LIFETIME, SessionRecord, StoredKey
from svc.identity.tokens import TokenSigner
from tests.fakes.clock import START, FakeClock

SEAL = Seal(b"k" * 32)


class OneKey:
    """A ring of one key."""

    def __init__(self) -> None:
        self.stored: StoredKey = new_key(SEAL, START)

    def signing(self) -> tuple[str, ECKey]:
        key = json.loads(SEAL.unseal(self.stored.kid, self.stored.sealed))
        return self.stored.kid, ECKey.import_key(key)


class Issuer:
    """A signer and a verifier that follows its keys."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        keys = OneKey()
        self.kid = keys.stored.kid
        self.signer = TokenSigner(keys)
        self.verifier = TokenVerifier(self.clock)
        self.verifier.update(jwk_set([keys.stored]))

    def issue(self, record: SessionRecord, scopes: list[str]) -> str:
        return self.signer.issue(record, scopes, at=self.clock.now())


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def session(actor: str | None = None) -> SessionRecord:
    return SessionRecord("session-1", "ann", actor, (), START, START + SESSION_LIFETIME)


def part(token: str, index: int) -> dict[str, object]:
    text = token.split(".")[index]
    value: dict[str, object] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return value


def test_the_verifier_reads_the_session_from_the_token(issuer: Issuer) -> None:
    principal = issuer.verifier.verify(issuer.issue(session(), ["catalog.read", "orders.read"]))

    assert ("ann", "session-1", None) == (principal.subject, principal.session, principal.actor)
    assert frozenset({"catalog.read", "orders.read"}) == principal.scopes


def test_the_verifier_reads_the_operator_from_a_delegated_token(issuer: Issuer) -> None:
    assert "operator" == issuer.verifier.verify(issuer.issue(session("operator"), ["orders.read"])).actor


def test_a_user_without_scopes_has_a_token_without_scopes(issuer: Issuer) -> None:
    assert frozenset() == issuer.verifier.verify(issuer.issue(session(), [])).scopes


def test_header_and_claims_are_the_agreed_ones_and_no_others(issuer: Issuer) -> None:
    token = issuer.issue(session("operator"), ["orders.read"])
    claims = part(token, 1)
    issued = int(START.timestamp())

    assert {"alg": "ES256", "typ": "at+jwt", "kid": issuer.kid} == part(token, 0)
    assert claims.pop("jti")
    assert {
        "iss": "weft-identity",
        "aud": "weft",
        "sub": "ann",
        "scope": "orders.read",
        "iat": issued,
        "exp": issued + 300,
        "sid": "session-1",
        "act": {"sub": "operator"},
    } == claims


def test_two_tokens_of_one_session_differ(issuer: Issuer) -> None:
    assert issuer.issue(session(), []) != issuer.issue(session(), [])


def test_a_token_is_good_for_its_lifetime_and_the_skew(issuer: Issuer) -> None:
    token = issuer.issue(session(), [])
    issuer.clock.move(ACCESS_TOKEN_LIFETIME + CLOCK_SKEW - timedelta(seconds=1))
    issuer.verifier.verify(token)
    issuer.clock.move(timedelta(seconds=1))

    with pytest.raises(Unauthenticated):
        issuer.verifier.verify(token)
