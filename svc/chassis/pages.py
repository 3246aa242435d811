"""Page tokens (AIP-158): where a list goes on, opaque to the client.

`rpc.py` of each service encodes the sort key of the last row it sent and decodes it on the next call. A token is
signed and bound to a scope (method, filter, order, caller), so nobody can write one, and a token of one list does not
work on another.
"""

import base64
import binascii
import json
from typing import Final

from svc.chassis.errors import InvalidArgument
from svc.chassis.signed import Signer

# Far above any real token; what is longer is not decoded at all.
_TOKEN_CHARS_MAX: Final = 2048


class PageTokens:
    """Makes and reads the tokens of one service."""

    def __init__(self, key: bytes) -> None:
        """`key`: `Secrets.cache_key()`."""
        self._signer = Signer(key, purpose="page token")

    def encode(self, values: tuple[str, ...], *, scope: str) -> str:
        """The token of the page after the row with these sort values. `scope`: what makes the list this list."""
        signed = self._signer.sign(scope, json.dumps(values, ensure_ascii=False).encode())
        return base64.urlsafe_b64encode(signed).rstrip(b"=").decode("ascii")

    def decode(self, token: str, *, scope: str) -> tuple[str, ...]:
        """The values of a token; () for the empty token of the first page.

        Raises InvalidArgument for `page_token` where the token is not ours or belongs to another list.
        """
        if not token:
            return ()
        payload = self._signer.verify(scope, _bytes_of(token))
        if payload is None:
            raise _refused()
        return tuple(json.loads(payload))


def _bytes_of(token: str) -> bytes:
    if len(token) > _TOKEN_CHARS_MAX:
        raise _refused()
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _refused() from None


def _refused() -> InvalidArgument:
    return InvalidArgument(violations=[("page_token", "is not a token of this list")])
