"""Tokens that nobody may take, and those that everybody must: one table for the gateway and for every instance.

A case says how to make its token from a genuine signing key, so that nothing but the fault it is named after is wrong
with it; and with which reason the call is refused. Unit tests run the table through a verifier and through a bare
Envoy, integration tests through a mesh.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from svc.chassis.clock import SystemClock

MISSING, INVALID, EXPIRED = "TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED"
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def b64(data: bytes) -> str:
    """base64url without padding, as in a JWT."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Mint:
    """A genuine signing key, and what a genuine token says."""

    kid: str
    key: ec.EllipticCurvePrivateKey
    scope: str = "catalog.read"
    now: int = field(default_factory=lambda: int(SystemClock().now().timestamp()))

    def jwk(self) -> dict[str, str]:
        """The public half."""
        numbers = self.key.public_key().public_numbers()
        x, y = (b64(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "kid": self.kid, "alg": "ES256", "use": "sig", "x": x, "y": y}

    def jwks(self) -> bytes:
        """The set of that key alone."""
        return json.dumps({"keys": [self.jwk()]}).encode()

    def header(self, **changes: object) -> str:
        """The genuine header with some fields changed; None leaves one out."""
        return _text({"alg": "ES256", "typ": "at+jwt", "kid": self.kid} | changes)

    def claims(self, **changes: object) -> str:
        """The genuine claims with some changed; None leaves one out."""
        usual: dict[str, object] = {
            "iss": "weft-identity",
            "aud": "weft",
            "sub": "alice",
            "scope": self.scope,
            "iat": self.now,
            "exp": self.now + 300,
            "jti": "token-1",
            "sid": "session-1",
        }
        return _text(usual | changes)

    def signature(self, signed: str) -> bytes:
        """ES256 of a text."""
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def sign(self, header: str | bytes, payload: str | bytes) -> str:
        """A token with this very JSON in it."""
        parts = (part.encode() if isinstance(part, str) else part for part in (header, payload))
        signed = ".".join(b64(part) for part in parts)
        return f"{signed}.{b64(self.signature(signed))}"

    def token(self, **changes: object) -> str:
        """A token with some claims changed; None leaves one out."""
        return self.sign(self.header(), self.claims(**changes))


def _text(fields: Mapping[str, object]) -> str:
    return json.dumps({name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True)
class Case:
    """One way to call."""

    make: Callable[[Mint], tuple[str, ...]]
    """Values of `authorization`, in their order."""
    reason: str = INVALID
    """Of google.rpc.ErrorInfo; empty where the call must be let in."""
    instance_only: str = ""
    """Why the gateway lets it through, to be refused by the instance behind; empty where it does not."""


def claims(reason: str = INVALID, *, instance_only: str = "", **changes: object) -> Case:
    """A token with some claims changed."""
    return Case(lambda mint: (f"Bearer {mint.token(**changes)}",), reason, instance_only)


def times(change: Callable[[int], Mapping[str, object]], reason: str = INVALID, *, instance_only: str = "") -> Case:
    """A token with claims that hang on the present second."""
    return Case(lambda mint: (f"Bearer {mint.token(**change(mint.now))}",), reason, instance_only)


def header(**changes: object) -> Case:
    """A token with some fields of the header changed, and a genuine signature over them."""
    return Case(lambda mint: (f"Bearer {mint.sign(mint.header(**changes), mint.claims())}",))


def payload(change: Callable[[str], str | bytes], *, instance_only: str = "") -> Case:
    """A token whose claims are another text."""
    return Case(lambda mint: (f"Bearer {mint.sign(mint.header(), change(mint.claims()))}",), INVALID, instance_only)


def token(change: Callable[[str], str]) -> Case:
    """A genuine token, bent."""
    return Case(lambda mint: (f"Bearer {change(mint.token())}",))


def sent(make: Callable[[str], tuple[str, ...]], reason: str = INVALID) -> Case:
    """A genuine token, sent in another way."""
    return Case(lambda mint: make(mint.token()), reason)


def made(make: Callable[[Mint], str]) -> Case:
    """A token made in any way."""
    return Case(lambda mint: (f"Bearer {make(mint)}",))


def part(number: int, change: Callable[[str], str]) -> Case:
    """A genuine token with one of its three parts bent."""

    def bend(text: str) -> str:
        parts = text.split(".")
        parts[number] = change(parts[number])
        return ".".join(parts)

    return token(bend)


def flipped(text: str) -> str:
    """One bit in the middle is another."""
    middle = len(text) // 2
    return text[:middle] + ALPHABET[ALPHABET.index(text[middle]) ^ 1] + text[middle + 1 :]


def respelt(text: str) -> str:
    """The same 64 bytes in another text: the last character of their base64 carries bits that decode to nothing."""
    return text[:-1] + ALPHABET[ALPHABET.index(text[-1]) ^ 1]


def nested(depth: int) -> Callable[[str], str]:
    """The claims and one more, so deep."""
    return lambda text: text[:-1] + ', "x": ' + "[" * depth + "]" * depth + "}"


def _unsigned(alg: str) -> Case:
    return made(lambda mint: f"{b64(mint.header(alg=alg).encode())}.{b64(mint.claims().encode())}.")


def _hs256(mint: Mint) -> str:
    """HMAC with the public key as the secret: what a verifier that believes `alg` would take."""
    signed = f"{b64(mint.header(alg='HS256').encode())}.{b64(mint.claims().encode())}"
    return f"{signed}.{b64(hmac.digest(json.dumps(mint.jwk()).encode(), signed.encode(), hashlib.sha256))}"


def _rs256(mint: Mint) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signed = f"{b64(mint.header(alg='RS256').encode())}.{b64(mint.claims().encode())}"
    return f"{signed}.{b64(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _der(mint: Mint) -> str:
    signed = mint.token().rpartition(".")[0]
    return f"{signed}.{b64(mint.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))}"


def _foreign(mint: Mint, **changes: object) -> str:
    """Signed by a key that identity does not know."""
    other = Mint(mint.kid, ec.generate_private_key(ec.SECP256R1()), mint.scope, mint.now)
    return other.sign(mint.header(**changes), mint.claims())


def _bringing_its_key(mint: Mint) -> str:
    other = Mint("own", ec.generate_private_key(ec.SECP256R1()), mint.scope, mint.now)
    return other.sign(other.header(jwk=other.jwk()), mint.claims())


def _as_json(text: str) -> str:
    return json.dumps(dict(zip(("protected", "payload", "signature"), text.split("."), strict=True)))


def _list(number: Any) -> Any:
    return [number]


_FORGIVING = "Envoy's JSON reader forgives it, and shows nobody the text that it read"
_NULL = "what Envoy hands on about a token holds no null"

_CLAIMS: Final[Mapping[str, Case]] = {
    "iss of another": claims(iss="weft-identity2"),
    "iss missing": claims(iss=None),
    "iss list": claims(iss=["weft-identity"]),
    "iss with a slash": claims(iss="weft-identity/"),
    "aud of another": claims(aud="weft-admin"),
    "aud prefix of ours": claims(aud="wef"),
    "aud with ours inside": claims(aud="weft other"),
    "aud list without ours": claims(aud=["elsewhere", "weft2"]),
    "aud list with a number": claims(aud=["weft", 1]),
    "aud list in a list": claims(aud=[["weft"]]),
    "aud empty list": claims(aud=[]),
    "aud empty": claims(aud=""),
    "aud object": claims(aud={"weft": 1}),
    "aud number": claims(aud=1),
    "aud missing": claims(aud=None),
    "exp missing": claims(exp=None),
    "exp 1e300": claims(exp=1e300),
    "exp 10^30": claims(exp=10**30),
    "exp 2^63": claims(exp=2**63),
    "exp negative": claims(exp=-1),
    "exp true": claims(exp=True),
    "exp list": times(lambda now: {"exp": _list(now + 300)}),
    "exp string": times(lambda now: {"exp": str(now + 300)}),
    "exp with a fraction": times(lambda now: {"exp": now + 300 - 0.5}),
    "exp with a point": times(lambda now: {"exp": float(now + 300)}, instance_only=_FORGIVING),
    "exp long past": times(lambda now: {"iat": now - 900, "exp": now - 600}, EXPIRED),
    "exp just past what clocks may differ": times(lambda now: {"iat": now - 100, "exp": now - 6}, EXPIRED),
    "exp too far": times(lambda now: {"exp": now + 301}),
    "exp in an hour": times(lambda now: {"exp": now + 3600}),
    "exp in ten years": times(lambda now: {"exp": now + 315_360_000}),
    "iat missing": claims(iat=None),
    "iat string": times(lambda now: {"iat": str(now)}),
    "iat true": claims(iat=True),
    "iat 1e300": claims(iat=1e300),
    "iat negative": claims(iat=-1),
    "iat in an hour": times(lambda now: {"iat": now + 3600, "exp": now + 3900}),
    "iat beyond what clocks may differ": times(lambda now: {"iat": now + 60, "exp": now + 300}),
    "nbf in the future": times(lambda now: {"nbf": now + 60}),
    "nbf string": claims(nbf="0"),
    "nbf negative": claims(nbf=-1),
    "nbf with a fraction": claims(nbf=0.5),
    "nbf 10^30": claims(nbf=10**30),
    "sub missing": claims(sub=None),
    "sub empty": claims(sub=""),
    "sub number": claims(sub=1),
    "sub list": claims(sub=["alice"]),
    "sub object": claims(sub={"alice": 1}),
    "sub CRLF and a header": claims(sub="u\r\nx-admin: 1"),
    "sub newline at the end": claims(sub="alice\n"),
    "sub NUL": claims(sub="alice\0"),
    "sub space": claims(sub="alice bob"),
    "sub Cyrillic letter": claims(sub="\u0430lice"),
    "sub full-width letter": claims(sub="\uff41lice"),
    "sub right-to-left override": claims(sub="alice\u202e"),
    "sub 65 characters": claims(sub="a" * 65),
    "sub path": claims(sub="../root"),
    "sub resource name": claims(sub="users/alice"),
    "sub SQL": claims(sub="a'--"),
    "sub wildcard": claims(sub="*"),
    "scope missing": claims(scope=None),
    "scope list": claims(scope=["catalog.read"]),
    "scope number": claims(scope=1),
    "scope object": claims(scope={"catalog.read": True}),
    "scope two spaces": claims(scope="catalog.read  orders.read"),
    "scope space in front": claims(scope=" catalog.read"),
    "scope space behind": claims(scope="catalog.read "),
    "scope tab": claims(scope="catalog.read\torders.read"),
    "scope newline": claims(scope="catalog.read\norders.read"),
    "scope NUL": claims(scope="catalog.read\0"),
    "scope comma": claims(scope="catalog.read,orders.read"),
    "scope wildcard": claims(scope="catalog.*"),
    "scope one word": claims(scope="admin"),
    "scope upper case": claims(scope="Catalog.read"),
    "scope dot at the end": claims(scope="catalog.read."),
    "scope two dots": claims(scope="catalog..read"),
    "scope digit in front": claims(scope="catalog.1read"),
    "sid missing": claims(sid=None),
    "sid object": claims(sid={"a": 1}),
    "sid CRLF": claims(sid="a\r\nb"),
    "sid 65 characters": claims(sid="a" * 65),
    "jti missing": claims(jti=None),
    "jti empty": claims(jti=""),
    "jti number": claims(jti=7),
    "act string": claims(act="operator"),
    "act empty": claims(act={}),
    "act list": claims(act=[{"sub": "operator"}]),
    "act nested": claims(act={"sub": "operator", "act": {"sub": "root"}}),
    "act with more": claims(act={"sub": "operator", "x": 1}),
    "act sub CRLF": claims(act={"sub": "a\r\nb"}),
}

_HEADERS: Final[Mapping[str, Case]] = {
    "typ of a refresh token": header(typ="rt+jwt"),
    "typ of an ID token": header(typ="JWT"),
    "typ in upper case": header(typ="AT+JWT"),
    "typ as a media type": header(typ="application/at+jwt"),
    "typ list": header(typ=["at+jwt"]),
    "typ missing": header(typ=None),
    "alg missing": header(alg=None),
    "alg none under a signature": header(alg="none"),
    "alg es256": header(alg="es256"),
    "alg ES384": header(alg="ES384"),
    "alg list": header(alg=["ES256"]),
    "alg number": header(alg=256),
    "kid unknown": header(kid="elsewhere"),
    "kid missing": header(kid=None),
    "kid empty": header(kid=""),
    "kid number": header(kid=1),
    "kid list": made(lambda mint: mint.sign(mint.header(kid=[mint.kid]), mint.claims())),
    "kid path": header(kid="../../../../dev/null"),
    "kid SQL": header(kid="x' UNION SELECT 'secret"),
    "kid NUL behind ours": made(lambda mint: mint.sign(mint.header(kid=f"{mint.kid}\0"), mint.claims())),
    "kid in other case": made(lambda mint: mint.sign(mint.header(kid=mint.kid.swapcase()), mint.claims())),
    "crit unknown": header(crit=["x"], x=1),
    "crit empty": header(crit=[]),
    "crit string": header(crit="exp"),
    "crit of a claim": header(crit=["exp"], exp=1),
    "b64 false": header(b64=False),
    "b64 false and critical": header(b64=False, crit=["b64"]),
    "jku": header(jku="http://127.0.0.1:1/jwks"),
    "jwk": header(jwk={"kty": "EC"}),
    "x5u": header(x5u="http://127.0.0.1:1/x"),
    "x5c": header(x5c=["AAAA"]),
    "cty": header(cty="JWT"),
    "zip": header(zip="DEF"),
    "any other field": header(x="y"),
    "header list": made(lambda mint: mint.sign(f"[{mint.header()}]", mint.claims())),
    "header string": made(lambda mint: mint.sign('"ES256"', mint.claims())),
    "header empty object": made(lambda mint: mint.sign("{}", mint.claims())),
    "header not JSON": made(lambda mint: mint.sign("alg=ES256", mint.claims())),
    "header duplicate alg": made(lambda mint: mint.sign('{"alg": "none", ' + mint.header()[1:], mint.claims())),
    "header duplicate typ": made(lambda mint: mint.sign(mint.header()[:-1] + ', "typ": "JWT"}', mint.claims())),
    "header BOM": made(lambda mint: mint.sign("\ufeff" + mint.header(), mint.claims())),
    "header bad UTF-8": made(
        lambda mint: mint.sign(mint.header(x="A").encode().replace(b'"A"', b'"\xff"'), mint.claims())
    ),
}

_SIGNATURES: Final[Mapping[str, Case]] = {
    **{f"alg {alg}, no signature": _unsigned(alg) for alg in ("none", "None", "NONE", "nOnE", "", "ES256")},
    "HS256 with the public key": made(_hs256),
    "RS256": made(_rs256),
    "a key of another, the same kid": made(_foreign),
    "a key of another, no kid": made(lambda mint: _foreign(mint, kid=None)),
    "a key that it brings along": made(_bringing_its_key),
    "DER signature": made(_der),
    "signature of zeros": part(2, lambda _: b64(bytes(64))),
    "signature of ones": part(2, lambda _: b64(b"\xff" * 64)),
    "signature too short": part(2, lambda text: b64(base64.urlsafe_b64decode(text + "==")[:63])),
    "signature too long": part(2, lambda text: b64(base64.urlsafe_b64decode(text + "==") + b"\0")),
    "signature of another token": made(
        lambda mint: f"{mint.token(scope='mesh.operate').rpartition('.')[0]}.{mint.token().rpartition('.')[2]}"
    ),
    "signature in another spelling": part(2, respelt),
    "bit of the header": part(0, flipped),
    "bit of the payload": part(1, flipped),
    "bit of the signature": part(2, flipped),
}

_PAYLOADS: Final[Mapping[str, Case]] = {
    "duplicate sub": payload(lambda text: text[:-1] + ', "sub": "admin"}'),
    "duplicate sub, the same": payload(lambda text: text[:-1] + ', "sub": "alice"}'),
    "duplicate sub, escaped": payload(lambda text: text[:-1] + ', "s\\u0075b": "admin"}'),
    "duplicate scope": payload(lambda text: text[:-1] + ', "scope": "mesh.operate"}'),
    "duplicate exp": payload(lambda text: text[:-1] + ', "exp": 1}'),
    "duplicate in act": payload(lambda text: text[:-1] + ', "act": {"sub": "a", "sub": "b"}}'),
    "duplicate in an unknown claim": payload(lambda text: text[:-1] + ', "x": {"a": 1, "a": 2}}'),
    "null sub": payload(lambda text: text.replace('"sub": "alice"', '"sub": null')),
    "null nbf": payload(lambda text: text[:-1] + ', "nbf": null}'),
    "null act": payload(lambda text: text[:-1] + ', "act": null}', instance_only=_NULL),
    "NaN": payload(lambda text: text[:-1] + ', "x": NaN}'),
    "Infinity": payload(lambda text: text[:-1] + ', "x": Infinity}'),
    "BOM": payload(lambda text: "\ufeff" + text),
    "list": payload(lambda text: f"[{text}]"),
    "number": payload(lambda _: "1"),
    "string": payload(json.dumps),
    "null": payload(lambda _: "null"),
    "empty object": payload(lambda _: "{}"),
    "not JSON": payload(lambda text: text[:-1]),
    "JSON and more": payload(lambda text: text + "{}"),
    "bad UTF-8": payload(lambda text: text[:-1].encode() + b', "x": "\xff"}'),
    "comment": payload(lambda text: text[:-1] + "/**/}"),
    "trailing comma": payload(lambda text: text[:-1] + ",}", instance_only=_FORGIVING),
    "single quotes": payload(lambda text: text[:-1] + ", 'x': 1}", instance_only=_FORGIVING),
    "unquoted key": payload(lambda text: text[:-1] + ", x: 1}", instance_only=_FORGIVING),
    "hexadecimal": payload(lambda text: text[:-1] + ', "x": 0x1}'),
    "raw newline in a string": payload(lambda text: text[:-1] + ', "x": "\n"}', instance_only=_FORGIVING),
    "deep": payload(nested(1200)),
    "8 KB": claims(x="a" * 8000),
    "5 KB": claims(x="a" * 5000),
}

_FORMS: Final[Mapping[str, Case]] = {
    "signature left out": token(lambda text: text.rpartition(".")[0]),
    "signature empty": token(lambda text: text.rpartition(".")[0] + "."),
    "payload empty": part(1, lambda _: ""),
    "header empty": part(0, lambda _: ""),
    "four parts": token(lambda text: text + ".e30"),
    "five parts": token(lambda text: text + ".e30.e30"),
    "dot at the end": token(lambda text: text + "."),
    "dot in front": token(lambda text: "." + text),
    "dots": made(lambda _: ".."),
    "one dot": made(lambda _: "."),
    "garbage": made(lambda _: "garbage"),
    "three short parts": made(lambda _: "a.b.c"),
    "JSON serialisation": token(_as_json),
    "padding at the end": token(lambda text: text + "="),
    "double padding at the end": token(lambda text: text + "=="),
    "padded header": part(0, lambda text: text + "=" * (-len(text) % 4 or 4)),
    "padded payload": part(1, lambda text: text + "=" * (-len(text) % 4 or 4)),
    "standard base64": made(lambda mint: mint.token(x="\u00ff?>\u00ff?>").replace("-", "+").replace("_", "/") + "+"),
    "space inside": token(lambda text: text.replace(".", ". ", 1)),
    "word behind": token(lambda text: text + " x"),
    "comma behind": token(lambda text: text + ","),
    "quoted": token(lambda text: f'"{text}"'),
    "named": token(lambda text: f"token={text}"),
    "itself once more": token(lambda text: f"{text}{text}"),
    "two, joined by a comma": token(lambda text: f"{text},{text}"),
    "two, joined by a comma and the scheme": token(lambda text: f"{text}, Bearer {text}"),
    "a good one behind a bad one": token(lambda text: f"x.y.z, Bearer {text}"),
}

_WIRES: Final[Mapping[str, Case]] = {
    "two headers": sent(lambda text: (f"Bearer {text}", f"Bearer {text}")),
    "two headers, the second bad": sent(lambda text: (f"Bearer {text}", "Bearer x.y.z")),
    "two headers, the first bad": sent(lambda text: ("Bearer x.y.z", f"Bearer {text}")),
    "two headers, the first Basic": sent(lambda text: ("Basic dTpw", f"Bearer {text}")),
    "scheme twice": sent(lambda text: (f"Bearer Bearer {text}",)),
    "two spaces": sent(lambda text: (f"Bearer  {text}",)),
    "a word before the scheme": sent(lambda text: (f"x Bearer {text}",)),
    "a letter before the scheme": sent(lambda text: (f"xBearer {text}",)),
    "scheme in lower case": sent(lambda text: (f"bearer {text}",), MISSING),
    "no scheme": sent(lambda text: (text,), MISSING),
    "a colon behind the scheme": sent(lambda text: (f"Bearer:{text}",), MISSING),
    "another scheme": sent(lambda text: (f"Token {text}",), MISSING),
    "Basic": sent(lambda _: ("Basic dTpw",), MISSING),
    "scheme alone": sent(lambda _: ("Bearer",), MISSING),
    "no header": sent(lambda _: (), MISSING),
}

#: Every case must end UNAUTHENTICATED, with its reason, at the gateway and at an instance.
HOSTILE: Final[Mapping[str, Case]] = {
    f"{kind}: {name}": case
    for kind, cases in {
        "claims": _CLAIMS,
        "header": _HEADERS,
        "signature": _SIGNATURES,
        "payload": _PAYLOADS,
        "form": _FORMS,
        "wire": _WIRES,
    }.items()
    for name, case in cases.items()
}

#: Every case must be let in by both.
ACCEPTED: Final[Mapping[str, Case]] = {
    "as identity makes them": claims(""),
    "aud list with ours alone": claims("", aud=["weft"]),
    "aud list with ours among others": claims("", aud=["elsewhere", "weft"]),
    "unknown claims": claims("", x=1, y={"a": [1, "b", None]}, z="\u00e4"),
    "nbf in the past": times(lambda now: {"nbf": now - 10}, ""),
    "nbf within what clocks may differ": times(lambda now: {"nbf": now + 3}, ""),
    "iat within what clocks may differ": times(lambda now: {"iat": now + 3, "exp": now + 303}, ""),
    "sub of every character": claims("", sub="Zz09_-"),
    "sub of one character": claims("", sub="a"),
    "sub of 64 characters": claims("", sub="a" * 64),
    "delegated": claims("", act={"sub": "operator"}),
    "several scopes": claims("", scope="orders.read catalog.read identity.read2.x"),
    "header in another order": Case(
        lambda mint: (
            f"Bearer {mint.sign(json.dumps(dict(reversed(json.loads(mint.header()).items()))), mint.claims())}",
        ),
        "",
    ),
    "claims in another order, with white space": Case(
        lambda mint: (
            f"Bearer {mint.sign(mint.header(), json.dumps(json.loads(mint.claims()), sort_keys=True, indent=1))}",
        ),
        "",
    ),
    "escapes in a claim": Case(
        lambda mint: (
            f"Bearer {mint.sign(mint.header(), mint.claims().replace('weft-identity', chr(92) + 'u0077eft-identity'))}",
        ),
        "",
    ),
}
