"""Tokens: ours are read, and every way to bend one is refused."""

import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from svc.chassis import tokens
from svc.chassis.context import Principal
from svc.chassis.errors import Unauthenticated, Unavailable
from svc.chassis.ids import new_id
from svc.chassis.tokens import TokenVerifier
from svc.identity.model import SessionRecord
from svc.identity.tokens import TokenSigner
from tests.unit.svc.chassis.instance import NOW_S, Issuer, StandingClock, b64


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


CLAIMS: dict[str, dict[str, object]] = {
    "other issuer": {"iss": "weft-identity2"},
    "no issuer": {"iss": None},
    "issuer list": {"iss": ["weft-identity"]},
    "other audience": {"aud": "weft-admin"},
    "audience prefix": {"aud": "wef"},
    "audience list": {"aud": ["weft", "other"]},
    "audience list of one": {"aud": ["weft"]},
    "no audience": {"aud": None},
    "no exp": {"exp": None},
    "exp string": {"exp": str(NOW_S + 300)},
    "exp float": {"exp": NOW_S + 300.5},
    "exp 1e300": {"exp": 1e300},
    "exp 10^30": {"exp": 10**30},
    "exp negative": {"exp": -1},
    "exp true": {"exp": True},
    "exp null in JSON": {"exp": [None]},
    "lives too long": {"exp": NOW_S + 301},
    "exp before iat": {"exp": NOW_S - 1},
    "no iat": {"iat": None},
    "iat string": {"iat": str(NOW_S)},
    "iat an hour ahead": {"iat": NOW_S + 3600, "exp": NOW_S + 3900},
    "nbf ahead": {"nbf": NOW_S + 60},
    "nbf string": {"nbf": "0"},
    "no sub": {"sub": None},
    "sub empty": {"sub": ""},
    "sub number": {"sub": 1},
    "sub list": {"sub": ["alice"]},
    "sub CRLF": {"sub": "u\r\nx-admin: 1"},
    "sub newline at the end": {"sub": "alice\n"},
    "sub NUL": {"sub": "alice\0"},
    "sub unicode": {"sub": "\u0430lice"},
    "sub 65 characters": {"sub": "a" * 65},
    "sub path": {"sub": "../root"},
    "no scope": {"scope": None},
    "scope list": {"scope": ["orders.read"]},
    "scope two spaces": {"scope": "orders.read  orders.write"},
    "scope tab": {"scope": "orders.read\torders.write"},
    "scope wildcard": {"scope": "orders.*"},
    "scope one word": {"scope": "admin"},
    "no sid": {"sid": None},
    "sid object": {"sid": {"a": 1}},
    "no jti": {"jti": None},
    "act string": {"act": "operator"},
    "act nested": {"act": {"sub": "operator", "act": {"sub": "root"}}},
    "act without sub": {"act": {}},
    "act list": {"act": [{"sub": "operator"}]},
    "act sub CRLF": {"act": {"sub": "a\r\nb"}},
}


@pytest.mark.parametrize("changes", CLAIMS.values(), ids=CLAIMS.keys())
def test_a_well_signed_token_with_a_wrong_claim_is_refused(
    verifier: TokenVerifier, issuer: Issuer, changes: dict[str, object]
) -> None:
    assert "TOKEN_INVALID" == refusal(verifier, issuer.token(**changes))


HEADERS: dict[str, dict[str, object]] = {
    "alg none": {"alg": "none"},
    "alg HS256": {"alg": "HS256"},
    "alg RS256": {"alg": "RS256"},
    "alg es256": {"alg": "es256"},
    "alg ES384": {"alg": "ES384"},
    "alg list": {"alg": ["ES256"]},
    "no alg": {"alg": None},
    "refresh token": {"typ": "rt+jwt"},
    "plain JWT": {"typ": "JWT"},
    "typ upper case": {"typ": "AT+JWT"},
    "no typ": {"typ": None},
    "unknown kid": {"kid": "key-2"},
    "kid path": {"kid": "../../etc/passwd"},
    "kid number": {"kid": 1},
    "kid list": {"kid": ["key-1"]},
    "no kid": {"kid": None},
    "crit": {"crit": ["exp"], "exp": NOW_S},
    "crit empty": {"crit": []},
    "b64 false": {"b64": False, "crit": ["b64"]},
    "jku": {"jku": "https://evil.example/jwks"},
    "x5u": {"x5u": "https://evil.example/cert"},
    "jwk": {"jwk": {"kty": "EC"}},
    "zip": {"zip": "DEF"},
}


@pytest.mark.parametrize("changes", HEADERS.values(), ids=HEADERS.keys())
def test_a_well_signed_token_with_a_wrong_header_is_refused(
    verifier: TokenVerifier, issuer: Issuer, changes: dict[str, object]
) -> None:
    token = issuer.sign(json.dumps(issuer.header(**changes)), json.dumps(issuer.claims()))

    assert "TOKEN_INVALID" == refusal(verifier, token)


def with_payload(change: Callable[[str], str]) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.sign(json.dumps(issuer.header()), change(json.dumps(issuer.claims())))


def with_token(change: Callable[[str], str]) -> Callable[[Issuer], str]:
    return lambda issuer: change(issuer.token())


def _same_bytes_other_text(token: str) -> str:
    """The last character of a 64-byte signature carries two bits that decode to nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _der_signature(issuer: Issuer) -> str:
    signed = issuer.token().rpartition(".")[0]
    return f"{signed}.{b64(issuer.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


FORMS: dict[str, Callable[[Issuer], str]] = {
    "duplicate sub": with_payload(lambda text: text[:-1] + ', "sub": "admin"}'),
    "duplicate exp": with_payload(lambda text: f'{text[:-1]}, "exp": {NOW_S + 299}}}'),
    "duplicate in act": with_payload(lambda text: text[:-1] + ', "act": {"sub": "a", "sub": "b"}}'),
    "duplicate alg": lambda issuer: issuer.sign(
        '{"alg": "none", "alg": "ES256", "typ": "at+jwt", "kid": "key-1"}', json.dumps(issuer.claims())
    ),
    "NaN": with_payload(lambda text: text[:-1] + ', "x": NaN}'),
    "Infinity": with_payload(lambda text: text[:-1] + ', "x": Infinity}'),
    "BOM": with_payload(lambda text: "\ufeff" + text),
    "list": with_payload(lambda text: f"[{text}]"),
    "number": with_payload(lambda text: "1"),
    "not JSON": with_payload(lambda text: text[:-1]),
    "JSON and more": with_payload(lambda text: text + "{}"),
    "deep JSON": with_payload(lambda text: text[:-1] + ', "x": ' + "[" * 1200 + "]" * 1200 + "}"),
    "8 KB": with_payload(lambda text: text[:-1] + ', "x": "' + "a" * 8000 + '"}'),
    "bit of the signature": with_token(lambda text: text[:-10] + ("A" if text[-10] != "A" else "B") + text[-9:]),
    "bit of the payload": with_token(lambda text: text.replace(".ey", ".fy")),
    "no signature": with_token(lambda text: text.rpartition(".")[0] + "."),
    "signature left out": with_token(lambda text: text.rpartition(".")[0]),
    "zero signature": with_token(lambda text: text.rpartition(".")[0] + "." + b64(bytes(64))),
    "DER signature": _der_signature,
    "non-canonical base64": with_token(_same_bytes_other_text),
    "padding": with_token(lambda text: text + "=="),
    "white space": with_token(lambda text: text + " "),
    "leading space": with_token(lambda text: " " + text),
    "newline": with_token(lambda text: text + "\n"),
    "four parts": with_token(lambda text: text + ".e30"),
    "five parts": with_token(lambda text: text + ".e30.e30"),
    "standard base64": with_token(lambda text: text.replace("-", "+").replace("_", "/") + "+"),
    "not ASCII": with_token(lambda text: text + "ä"),
    "empty": lambda issuer: "",
    "dots": lambda issuer: "..",
    "garbage": lambda issuer: "garbage",
    "JSON serialisation": with_token(
        lambda text: json.dumps(dict(zip(("protected", "payload", "signature"), text.split("."), strict=True)))
    ),
    "another key, the same kid": lambda issuer: Issuer().token(),
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS.keys())
def test_a_token_of_another_form_is_refused(
    verifier: TokenVerifier, issuer: Issuer, make: Callable[[Issuer], str]
) -> None:
    assert "TOKEN_INVALID" == refusal(verifier, make(issuer))


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
