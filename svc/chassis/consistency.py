"""What a call is promised of its reads, and what it has to see because it wrote it: the contract's `consistency`.

A `Session` belongs to one call. Use cases pass it to `database` with every read and write, and to `cached_reads`; it
says where an answer may come from and gathers how far the call has written. That goes back to the client as a read
token (`x-weft-read-token`), opaque and signed; a client that sends it with later calls reads its own writes on any
instance, from whichever replica or cache entry is new enough, else from the leader.
"""

import base64
import binascii
import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from svc.chassis.clock import Clock, SystemClock
from svc.chassis.errors import InvalidArgument
from svc.chassis.signed import Signer
from weft.options.v1.policy_pb2 import MethodPolicy
from weft_protos import policy, read_token

#: How far the clocks of two instances may be apart: a cache entry counts as newer than a write by this much or not.
SKEW_S: Final = 5.0
#: Databases in one token; the oldest mark gives way.
_MARKS_MAX: Final = 8
_TOKEN_CHARS_MAX: Final = 1024
_CLOCK: Final = SystemClock()


class Level(enum.Enum):
    """The word of the contract."""

    STRONG = "strong"
    """The leader, one serializable snapshot: everything acknowledged before is there."""
    BOUNDED = "bounded"
    """What was true at most so long ago."""
    EVENTUAL = "eventual"
    """What was true at some time; an answer while the leader is away."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """The promise of one method."""

    level: Level = Level.STRONG
    max_s: float = 0.0
    """How old an answer may be: nothing where it is STRONG, any age where it is EVENTUAL."""

    @classmethod
    def of(cls, rules: MethodPolicy) -> Self:
        """What an effective policy promises."""
        level, max_s = policy.consistency(rules)
        return cls(Level(level), max_s)


@dataclass(frozen=True, slots=True)
class Mark:
    """How far somebody has written in one database."""

    position: int
    """See `positions`. Of a token that an older release made it has no timeline."""
    time: int
    """Seconds of the Unix time at which it was made."""


class Session:
    """What one call is promised, has seen and has written. Used by the call's own thread."""

    __slots__ = ("_clock", "_seen", "_written", "consistency", "home", "token", "tracks")

    def __init__(
        self,
        consistency: Consistency | None = None,
        *,
        home: str = "",
        token: str = "",
        seen: Mapping[str, Mark] | None = None,
        tracks: bool = False,
        clock: Clock = _CLOCK,
    ) -> None:
        """`home`: the service's database; `token`: as it came; `seen`: what is in it.

        `tracks`: whether writes are noted at all; a service all of whose methods are STRONG has no use for it.
        """
        self.consistency = consistency or Consistency()
        self.home = home
        self.token = token
        self.tracks = tracks
        self._clock = clock
        self._seen = dict(seen or {})
        self._written: dict[str, Mark] = {}

    @property
    def marks(self) -> Mapping[str, Mark] | None:
        """All that the caller has to see from now on; None where this call has added nothing."""
        return {**self._seen, **self._written} if self._written else None

    def wrote(self, database: str, position: int) -> None:
        """Note that everything up to that position, the call's own commit included, is committed."""
        self._written[database] = Mark(position, math.ceil(self._now()))

    def least(self, database: str) -> int:
        """The position that a read of that database must have reached; 0: any will do."""
        return max((marks[database].position for marks in (self._seen, self._written) if database in marks), default=0)

    def written_s(self, database: str) -> float:
        """For how many seconds at least what must be seen of a database has been committed; infinity: for ever."""
        times = [marks[database].time for marks in (self._seen, self._written) if database in marks]
        return max(0.0, self._now() - max(times) - SKEW_S) if times else math.inf

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def max_age_s(self) -> float:
        """How old a cache entry may be for this call; 0: the cache is not for it."""
        allowed = {Level.STRONG: 0.0, Level.BOUNDED: self.consistency.max_s, Level.EVENTUAL: math.inf}
        return min(allowed[self.consistency.level], self.written_s(self.home))


class ReadTokens:
    """Makes read tokens and reads them."""

    def __init__(self, key: bytes) -> None:
        """`key`: `Secrets.cache_key()`. Signed, so that nobody sends the mesh after a position that never comes."""
        self._signer = Signer(key, purpose="read token")

    def encode(self, marks: Mapping[str, Mark]) -> str:
        """The token of those marks."""
        newest = sorted(marks.items(), key=lambda entry: -entry[1].time)[:_MARKS_MAX]
        payload = ";".join(f"{name}={mark.position:x}@{mark.time:x}" for name, mark in newest)
        return base64.urlsafe_b64encode(self._signer.sign("", payload.encode())).decode().rstrip("=")

    def decode(self, token: str) -> Mapping[str, Mark]:
        """The marks of a token; none of an empty one. Raises InvalidArgument for what is no token of ours."""
        if not token:
            return {}
        try:
            if len(token) > _TOKEN_CHARS_MAX:
                raise ValueError("too long")
            signed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            payload = self._signer.verify("", signed)
            if payload is None:
                raise ValueError("not ours")
            return dict(_mark(entry) for entry in payload.decode().split(";"))
        except (ValueError, binascii.Error):
            raise InvalidArgument(
                "The read token is not one of this mesh.",
                reason="READ_TOKEN_INVALID",
                violations=[(read_token.HEADER, "is not a token that an answer of this mesh had")],
            ) from None


def _mark(entry: str) -> tuple[str, Mark]:
    name, _, rest = entry.partition("=")
    position, _, made = rest.partition("@")
    return name, Mark(int(position, 16), int(made, 16))
