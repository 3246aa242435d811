"""How much a call matters while not all can be served, and how that travels from hop to hop.

A call counts as much as the contract says of its method. A call that it leads to counts as much as it does itself: else
an order would be refused because the look-up of its prices may be. That is said in one header. Anybody may say that
a call matters less; that it matters more is believed only with a code that no client can make, and the gateway
takes the header off whatever comes from outside.
"""

import base64
import binascii
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from svc.chassis.signed import Signer
from weft.options.v1.policy_pb2 import MethodPolicy
from weft_protos import policy

HEADER: Final = "x-weft-criticality"
_BEARER: Final = "authorization"

Metadata = Sequence[tuple[str, str | bytes]]


class Criticality(IntEnum):
    """From what is refused first to what is refused last; the numbers are the contract's."""

    SHEDDABLE = 1
    DEFAULT = 2
    CRITICAL = 3

    @classmethod
    def of(cls, rules: MethodPolicy) -> "Criticality":
        """What a method's policy says."""
        return cls(policy.criticality(rules))

    @property
    def word(self) -> str:
        """`critical`"""
        return self.name.lower()


_WORDS: Final = {level.word: level for level in Criticality}


class Courier:
    """Says at one hop, and reads at the next, how much a call matters."""

    def __init__(self, key: bytes | None = None) -> None:
        """`key`: the mesh's shared secret. Without it nothing is raised, neither here nor by what is sent."""
        self._signer = None if key is None else Signer(key, purpose="criticality")

    def send(self, level: Criticality, *, method: str, own: Criticality, authorization: str) -> list[tuple[str, str]]:
        """Metadata of a call to `method`, which by itself counts as `own`, made for a call that counts as `level`."""
        if level < own:
            return [(HEADER, level.word)]
        if level == own or self._signer is None:
            return []
        code = self._signer.sign(_context(method, authorization), level.word.encode())
        return [(HEADER, base64.urlsafe_b64encode(code).decode())]

    def read(self, metadata: Metadata, *, method: str, own: Criticality) -> Criticality:
        """How much a call to `method` counts. What is not ours, or said twice, says nothing."""
        said = [value for key, value in metadata if key == HEADER and isinstance(value, str)]
        if len(said) != 1:
            return own
        if said[0] in _WORDS:
            return min(own, _WORDS[said[0]])
        if self._signer is None:
            return own
        bearer = next((value for key, value in metadata if key == _BEARER and isinstance(value, str)), "")
        try:
            code = base64.b64decode(said[0], altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return own
        word = self._signer.verify(_context(method, bearer), code)
        return own if word is None else _WORDS[word.decode()]


def _context(method: str, authorization: str) -> str:
    return f"{method} {authorization}"
