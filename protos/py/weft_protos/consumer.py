"""Who calls: how a client names itself and the contract it was made with, and how a service reads that name.

The header is `x-weft-client: <name>/<version>; contract=<hash>`. It is a courtesy, never trusted: it decides nothing
about access, and only tells the owners of a contract whom a change of it would meet. Whoever does not send it is known
by the product of its `user-agent`.
"""

import hashlib
import re
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

import grpc

from weft_protos import call_details, policy

HEADER: Final = "x-weft-client"
#: Of those who do not name themselves; no declared name can look like it.
AGENT: Final = "user-agent:"
UNKNOWN: Final = "unknown"
#: All those that came after an instance knew as many as it keeps apart.
OTHER: Final = "(others)"

_NAME: Final = r"[a-z0-9][a-z0-9._-]{0,63}"
_VERSION: Final = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,31}"
_HASH_DIGITS: Final = 12
_DECLARED: Final = re.compile(rf"({_NAME})(?:/({_VERSION}))?(?:; ?contract=([0-9a-f]{{{_HASH_DIGITS}}}))?")
_PRODUCT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Consumer(NamedTuple):
    """Somebody who calls."""

    name: str
    version: str = ""
    contract: str = ""
    """Hash of the contract its code was generated from; empty where it does not say."""

    def __str__(self) -> str:
        """As it stands in the header."""
        version = f"/{self.version}" if self.version else ""
        return f"{self.name}{version}" + (f"; contract={self.contract}" if self.contract else "")


@cache
def contract_hash() -> str:
    """The hash of the linked contracts: any change of them that generated code can see makes it another."""
    digest = hashlib.sha256()
    for file in sorted(policy.FILES, key=lambda each: str(each.name)):
        digest.update(file.serialized_pb)
    return digest.hexdigest()[:_HASH_DIGITS]


def declare(name: str, version: str = "") -> tuple[str, str]:
    """The metadata entry by which generated code names itself. Raises ValueError for a name nobody would read."""
    said = str(Consumer(name, version, contract_hash()))
    if not _DECLARED.fullmatch(said):
        raise ValueError(f"{name!r} {version!r}: a name is {_NAME}, a version {_VERSION} or empty")
    return HEADER, said


def named(channel: grpc.Channel, name: str, version: str = "") -> grpc.Channel:
    """The channel, with every call of it named: `stub = OrderServiceStub(named(channel, "shop-web", "1.4"))`."""
    return grpc.intercept_channel(channel, _Naming(declare(name, version)))


@lru_cache(maxsize=4096)
def read(declared: str, user_agent: str) -> Consumer:
    """Who that is; `declared` is the header's value, empty where there is none or more than one."""
    found = _DECLARED.fullmatch(declared)
    if found:
        return Consumer(found[1], found[2] or "", found[3] or "")
    product = _PRODUCT.match(user_agent)
    return Consumer(f"{AGENT}{product[0].lower()}" if product else UNKNOWN)


def parse(text: str) -> Consumer:
    """What `str` made of a consumer. Raises ValueError for anything else."""
    own = text.removeprefix(AGENT)
    if text in (UNKNOWN, OTHER) or (own != text and _PRODUCT.fullmatch(own)):
        return Consumer(text)
    found = _DECLARED.fullmatch(text)
    if not found:
        raise ValueError(f"{text[:200]!r} is no consumer")
    return Consumer(found[1], found[2] or "", found[3] or "")


class _Naming(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the entry to a call that does not have one of its own."""

    def __init__(self, entry: tuple[str, str]) -> None:
        self._entry = entry

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(call_details.with_entry(client_call_details, *self._entry), request)

    def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return continuation(call_details.with_entry(client_call_details, *self._entry), request)
