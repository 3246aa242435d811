"""What a handler is told about the call it serves: who calls, how long there is left, whether anyone still waits.

Passed from `rpc` to `usecases` to `client` by argument; nothing of it is ambient. Times are monotonic.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from svc.chassis.consistency import Session
from svc.chassis.criticality import Criticality
from svc.chassis.errors import Unauthenticated
from weft_protos.identity import Identity


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, as the verified token says."""

    subject: str
    """User id."""
    scopes: frozenset[str]
    """What the caller may do."""
    session: str
    """The session that the token belongs to; empty where there is none."""
    actor: str | None
    """The operator who acts for the subject; None in the usual case."""
    token: str = field(repr=False)
    """The token itself, for the next hop; never shown."""
    issued: int = field(default=0, compare=False)
    """When the token was issued, in seconds of the Unix time."""


class Deadline:
    """A moment on the monotonic clock after which nobody waits for the answer."""

    __slots__ = ("_at",)

    def __init__(self, at: float) -> None:
        """`at` is a value of `time.monotonic()`; use `after` instead."""
        self._at = at

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The deadline that many seconds from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Seconds that are left, never below zero."""
        return max(0.0, self._at - time.monotonic())

    def expired(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self._at

    def less(self, reserve_s: float) -> "Deadline":
        """An earlier deadline that leaves the caller a reserve to answer in."""
        return Deadline(self._at - reserve_s)

    def __repr__(self) -> str:
        """Seconds left."""
        return f"Deadline({self.remaining():.3f} s)"


@dataclass(frozen=True, slots=True)
class CallContext:
    """One call."""

    method: str
    """Full name: `/weft.orders.v1.OrderService/PlaceOrder`."""
    principal: Principal | None
    """Who calls; None only on a public method called without a valid token."""
    deadline: Deadline
    """When the answer must be out: the client's deadline or the contract's timeout, whichever is earlier."""
    body_hash: bytes
    """SHA-256 of the request's deterministic serialisation; ties a `request_id` to one body."""
    is_active: Callable[[], bool]
    """Whether the client still waits. Asked before side effects, and by streams in their loop."""
    criticality: Criticality = Criticality.DEFAULT
    """How much it matters that it is served; calls to peers for its sake matter as much."""
    lane: str = ""
    """The lane that it goes by; calls to peers for its sake and events that it causes go by the same. Empty: none."""
    session: Session = field(default_factory=Session, compare=False)
    """What its reads are promised, and how far it has written."""
    cache_key: str = ""
    """Under which key the answer is kept, as the contract says; empty where it is not kept."""
    peer: Identity | None = None
    """Which part of the mesh made the hop, as its certificate says; None: hops are in clear."""

    @property
    def caller(self) -> Principal:
        """The principal of a method that is not public."""
        if self.principal is None:
            raise Unauthenticated("A token is required.", reason="TOKEN_MISSING")
        return self.principal
