"""What lies in a slot: the payload behind a header and a code that only we can make. No wire in here.

The code covers the slot (method and key), the form of the answer (a digest of its descriptors), the subject it was
loaded for, and the header. A value of another release's form, of another subject, under another key, or with a bit
flipped is `None` here, and so a miss.
"""

import json
import struct
from dataclasses import dataclass
from typing import Final

from svc.chassis.errors import NotFound
from svc.chassis.signed import Signer

# Kind, lifetime that it was stored with (s), time that the load took (ms), version of what was loaded.
_HEADER: Final = struct.Struct(">BIIq")
_LOAD_MS_MAX: Final = 2**32 - 1
_PRESENT, _ABSENT = 0, 1
#: Memcached counts whole seconds, and a lifetime begins somewhere inside of one.
_TICK_S: Final = 1.0


@dataclass(slots=True)
class Value:
    """One kept answer."""

    payload: bytes
    life_s: int
    """For how long it was stored."""
    load_s: float = 0.0
    """How long the load took: what was read is older than the value by up to this."""
    version: int = 0
    """Grows with every change of what was loaded; 0 where that is not known."""
    absent: bool = False
    """There was nothing; the payload says so."""

    def age_s(self, left_s: int) -> float:
        """The most seconds ago that what it says was read from the database. `left_s`: what is left of its life.

        No wall clock takes part, so it holds whatever clocks say.
        """
        return max(0, self.life_s - left_s) + _TICK_S + self.load_s


class Seal:
    """Turns values of one cached method into bytes and back."""

    def __init__(self, signer: Signer, schema: bytes) -> None:
        """`schema`: digest of the answer's descriptors."""
        self._signer = signer
        self._schema = schema.hex()

    def close(self, slot: str, owner: str, value: Value) -> bytes:
        """The bytes of a value for one slot and one subject; the empty subject is everybody."""
        kind = _ABSENT if value.absent else _PRESENT
        # Rounded up: an entry may look older than it is, and never younger.
        header = _HEADER.pack(kind, value.life_s, min(int(value.load_s * 1000) + 1, _LOAD_MS_MAX), value.version)
        return self._signer.sign(self._context(slot, owner), header + value.payload)

    def open(self, slot: str, owner: str, raw: bytes) -> Value | None:
        """The value; None where it is none of ours for this slot, form and subject."""
        content = self._signer.verify(self._context(slot, owner), raw)
        if content is None or len(content) < _HEADER.size:
            return None
        kind, life_s, load_ms, version = _HEADER.unpack_from(content)
        return Value(content[_HEADER.size :], life_s, load_ms / 1000, version, kind == _ABSENT)

    def _context(self, slot: str, owner: str) -> str:
        return f"{slot}\n{self._schema}\n{owner}"


def nothing(error: NotFound) -> bytes:
    """What is kept of a NotFound."""
    return json.dumps([error.message, error.reason, error.metadata, error.resource]).encode()


def not_found(payload: bytes) -> NotFound:
    """The NotFound that was kept. Raises ValueError where the payload is none."""
    message, reason, metadata, resource = json.loads(payload)
    return NotFound(message, reason=reason, metadata=metadata, resource=None if resource is None else tuple(resource))
