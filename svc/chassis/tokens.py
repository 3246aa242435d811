"""Verification of access tokens: ES256 JWTs of identity, typ `at+jwt`.

The gateway has checked the token before; this is the second wall, for calls that come straight at an instance.
Where the two could read one token differently (duplicate keys, numbers that are no integers, unknown header fields)
it is refused, so that one token means one thing everywhere. Keys come only from the JWK set that identity publishes;
nothing a token says (`jku`, `jwk`, `x5u`) is ever followed.

The gateway verifies by keys alone. That a session has ended or a user is suspended is checked here and nowhere else,
by the list that identity publishes, also for tokens that were verified before.
"""

import base64
import binascii
import json
import re
import threading
from collections import OrderedDict
from typing import Any, Final

import structlog
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from svc.chassis import revocations
from svc.chassis.clock import Clock
from svc.chassis.context import Principal
from svc.chassis.errors import Unauthenticated, Unavailable
from svc.chassis.revocations import Revocations
from weft_protos import access_token

# Tokens remembered as verified: one of 1 KB for each caller active within five minutes.
CACHE_ENTRIES: Final = 10_000
# Keys in a set: the current, the next and those whose tokens still live. More is a mistake of the publisher.
JWKS_KEYS: Final = 16
JWKS_BYTES: Final = 64 * 1024

_PART: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER: Final = frozenset(access_token.HEADER)

log = structlog.get_logger(__name__)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """The token is not ours. The text names the rule and goes into no answer but the log."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Refused("duplicate key")
    return value


def _refuse_constant(name: str) -> Any:
    raise _Refused(f"{name} is no JSON")


def _json(data: bytes) -> dict[str, Any]:
    """Strict JSON: one object in UTF-8, no key twice, no NaN."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _Refused("not JSON") from None
    if not isinstance(value, dict):
        raise _Refused("not an object")
    return value


def _decode(part: str) -> bytes:
    """Canonical base64url: a part that encodes the same bytes in another way is another token."""
    if not _PART.fullmatch(part):
        raise _Refused("not base64url")
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        raise _Refused("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise _Refused("not canonical base64url")
    return data


def _integer(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value < 2**53:
        raise _Refused(f"{name} is no integer")
    return value


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not access_token.ID.fullmatch(value):
        raise _Refused(f"{name} is not in the alphabet")
    return value


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    value = claims.get("scope")
    if not isinstance(value, str):
        raise _Refused("scope is no string")
    scopes = value.split(" ") if value else []
    if not all(access_token.SCOPE.fullmatch(scope) for scope in scopes):
        raise _Refused("scope is not a list of scopes")
    return frozenset(scopes)


def _is_audience(value: object) -> bool:
    """Ours, alone or in a list of texts (RFC 7519, 4.1.3)."""
    if isinstance(value, list):
        return access_token.AUDIENCE in value and all(isinstance(one, str) for one in value)
    return value == access_token.AUDIENCE


def _actor(claims: dict[str, Any]) -> str | None:
    if "act" not in claims:
        return None
    actor = claims["act"]
    if not isinstance(actor, dict) or set(actor) != {"sub"}:
        raise _Refused("act is not {sub}")
    return _text(actor, "sub")


def _import_key(key: object) -> tuple[str, ECKey]:
    if not isinstance(key, dict) or key.get("kty") != "EC" or key.get("crv") != "P-256" or "d" in key:
        raise ValueError("not a public P-256 key")
    kid = key.get("kid")
    if not isinstance(kid, str) or not access_token.ID.fullmatch(kid):
        raise ValueError("no usable kid")
    return kid, ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")})


def parse_jwks(document: bytes) -> dict[str, ECKey]:
    """The keys of an RFC 7517 set by `kid`. Raises ValueError unless every one is a public P-256 key."""
    if len(document) > JWKS_BYTES:
        raise ValueError("the JWK set is too large")
    try:
        entries = _json(document).get("keys")
        if not isinstance(entries, list) or not 0 < len(entries) <= JWKS_KEYS:
            raise ValueError("the JWK set has no keys, or too many")
        keys = dict(_import_key(entry) for entry in entries)
    except (_Refused, JoseError, KeyError, TypeError) as error:
        raise ValueError(f"not a JWK set: {type(error).__name__}") from None
    if len(keys) != len(entries):
        raise ValueError("a kid occurs twice")
    return keys


class TokenVerifier:
    """Turns tokens into principals. One per process; its methods may run in different threads."""

    def __init__(self, clock: Clock) -> None:
        """It verifies nothing before the first `update`."""
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, ECKey] = {}
        self._verified: OrderedDict[str, tuple[Principal, int]] = OrderedDict()
        # Replaced as a whole, never changed: read without the lock.
        self._revocations = Revocations()
        self._loaded = threading.Event()

    def update(self, document: bytes | None) -> None:
        """Take a new JWK set. A missing or broken one changes nothing: the last good set keeps serving."""
        if document is None:
            log.warning("jwks_missing")
            return
        try:
            keys = parse_jwks(document)
        except ValueError as error:
            log.error("jwks_refused", reason=str(error))
            return
        with self._lock:
            self._keys = keys
            # A token of a key that has gone is refused from now on, even one verified before.
            self._verified.clear()
        self._loaded.set()
        log.info("jwks_loaded", kids=sorted(keys))

    def revoke(self, document: bytes) -> None:
        """Take a new list of revocations. A broken one changes nothing: the last good list keeps being obeyed."""
        try:
            listed = revocations.parse(document)
        except ValueError as error:
            log.error("revocations_refused", reason=str(error))
            return
        self._revocations = listed
        log.debug("revocations_loaded", sessions=len(listed.sessions), subjects=len(listed.subjects))

    def refuse_revoked(self, principal: Principal) -> None:
        """Raise Unauthenticated where the principal's token was revoked, before or after it was verified."""
        self._revocations.refuse(principal)

    def wait_loaded(self, timeout_s: float) -> bool:
        """Wait until there is a JWK set; False when the time is over."""
        return self._loaded.wait(timeout_s)

    def verify(self, token: str) -> Principal:
        """The principal of a valid token. Raises Unauthenticated, or Unavailable while there is no JWK set."""
        now = int(self._clock.now().timestamp())
        with self._lock:
            keys = self._keys
            known = self._verified.get(token)
        if known is not None:
            principal, expires = known
            self._refuse_expired(expires, now)
            self.refuse_revoked(principal)
            return principal
        if not keys:
            raise Unavailable("The keys are not loaded yet; try again.", reason="KEYS_NOT_LOADED", retry_after=1.0)
        try:
            claims = self._claims(token, keys)
            principal, expires = self._principal(token, claims, now)
        except _Refused as refusal:
            log.debug("token_refused", rule=str(refusal))
            raise Unauthenticated("The token is not valid.", reason="TOKEN_INVALID") from None
        self._refuse_expired(expires, now)
        with self._lock:
            if self._keys is keys:
                self._verified[token] = (principal, expires)
                if len(self._verified) > CACHE_ENTRIES:
                    self._verified.popitem(last=False)
        self.refuse_revoked(principal)
        return principal

    def _refuse_expired(self, expires: int, now: int) -> None:
        if now >= expires + access_token.SKEW_S:
            raise Unauthenticated("The token has expired.", reason="TOKEN_EXPIRED")

    def _claims(self, token: str, keys: dict[str, ECKey]) -> dict[str, Any]:
        """Check form, header and signature; return the claims, not yet judged."""
        parts = token.split(".") if len(token) <= access_token.CHARS_MAX else []
        if len(parts) != 3:
            raise _Refused("not three parts")
        header, payload, _ = (_decode(part) for part in parts)
        fields = _json(header)
        if set(fields) != _HEADER:
            raise _Refused("header fields are not alg, typ, kid")
        if fields["alg"] != access_token.ALGORITHM or fields["typ"] != access_token.TYPE:
            raise _Refused("another algorithm or kind of token")
        key = keys.get(fields["kid"]) if isinstance(fields["kid"], str) else None
        if key is None:
            raise _Refused("unknown kid")
        try:
            jws.deserialize_compact(token, key, algorithms=[access_token.ALGORITHM])
        except (JoseError, ValueError):
            raise _Refused("signature") from None
        return _json(payload)

    def _principal(self, token: str, claims: dict[str, Any], now: int) -> tuple[Principal, int]:
        if claims.get("iss") != access_token.ISSUER or not _is_audience(claims.get("aud")):
            raise _Refused("another issuer or audience")
        issued, expires = _integer(claims, "iat"), _integer(claims, "exp")
        if issued > now + access_token.SKEW_S:
            raise _Refused("issued in the future")
        if "nbf" in claims and _integer(claims, "nbf") > now + access_token.SKEW_S:
            raise _Refused("not valid yet")
        if not issued < expires <= issued + access_token.LIFETIME_S:
            raise _Refused("lives too long, or not at all")
        _text(claims, "jti")
        principal = Principal(
            subject=_text(claims, "sub"),
            scopes=_scopes(claims),
            session=_text(claims, "sid"),
            actor=_actor(claims),
            token=token,
            issued=issued,
        )
        return principal, expires
