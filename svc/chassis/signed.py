"""Bytes that prove who made them: values in Memcached, which asks nobody for a password, and page tokens.

A code binds the payload to a context, so that a value that is right in one place is worth nothing in another.
It authenticates; it does not hide.
"""

import hmac
from typing import Final

MAC_BYTES: Final = 32
_LENGTH_BYTES: Final = 4


class Signer:
    """Signs and verifies for one purpose with a key derived for it."""

    def __init__(self, key: bytes, *, purpose: str) -> None:
        """`key` is the mesh's shared secret; the same key for another purpose verifies nothing of this one."""
        self._key = hmac.digest(key, b"weft " + purpose.encode(), "sha256")

    def _mac(self, context: str, payload: bytes) -> bytes:
        # The length keeps (context, payload) apart from every other split of the same bytes.
        where = context.encode()
        return hmac.digest(self._key, len(where).to_bytes(_LENGTH_BYTES, "big") + where + payload, "sha256")

    def sign(self, context: str, payload: bytes) -> bytes:
        """The payload behind its code."""
        return self._mac(context, payload) + payload

    def verify(self, context: str, signed: bytes) -> bytes | None:
        """The payload, or None where the code is not ours for this context."""
        payload = signed[MAC_BYTES:]
        return payload if hmac.compare_digest(signed[:MAC_BYTES], self._mac(context, payload)) else None
