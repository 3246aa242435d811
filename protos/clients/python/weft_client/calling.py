"""One call and its attempts, without any I/O: what is sent, how long it may take, and whether it is sent again.

What is repeated is what the contract says (AIP-194 asks for no more): where the method has a `retry`, a call that
failed for want of somebody to answer (UNAVAILABLE), and one that lost against another (ABORTED), if the server says
when to come back; whatever the method, one that was refused before it did anything (RESOURCE_EXHAUSTED), when the
refusal says. Never beyond the deadline: an error that is known is worth more than one that says that time is up.
"""

import math
import random
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from weft_client import status
from weft_client.kinds import Unauthenticated, WeftError
from weft_protos import policy
from weft_protos.client_config import ATTEMPTS_MAX, PAUSE_FIRST_S, PAUSE_MAX_S, TOKEN_RATIO, TOKENS_MAX

#: Of tokens that were good when they were issued: their key or session was revoked since, or our clock is slow.
_STALE: Final = frozenset({"TOKEN_EXPIRED", "TOKEN_INVALID", "TOKEN_REVOKED"})
_REQUEST_ID: Final = "request_id"


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the contracts, as a caller has to treat it."""

    path: str
    """`/weft.orders.v1.OrderService/PlaceOrder`"""
    public: bool
    """No token is asked for."""
    timeout_s: float | None
    """The longest a call may take; None: as long as it likes."""
    attempts: int
    """Attempts in all where a failed one may have had an effect."""
    descriptor: MethodDescriptor

    @classmethod
    def of(cls, descriptor: MethodDescriptor) -> "Method":
        """Read it from the linked contracts."""
        rules = policy.effective(descriptor)
        return cls(
            path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
            public=rules.public,
            timeout_s=rules.timeout.ToTimedelta().total_seconds() or None,
            attempts=max(1, rules.retry.max_attempts),
            descriptor=descriptor,
        )

    def request(self, fields: Mapping[str, Any]) -> Message:
        """The request with these fields, those that are None left out. Raises TypeError, ValueError."""
        known = self.descriptor.input_type.fields_by_name
        given = {name: _value(known[name], value) for name, value in fields.items() if value is not None}
        return GetMessageClass(self.descriptor.input_type)(**given)

    def fill(self, request: Message) -> Message:
        """The request with an id of its own, where the method has one and the caller did not say it (AIP-155)."""
        field = self.descriptor.input_type.fields_by_name.get(_REQUEST_ID)
        if field is None or field.type != FieldDescriptor.TYPE_STRING or getattr(request, _REQUEST_ID):
            return request
        filled = type(request)()
        filled.CopyFrom(request)
        setattr(filled, _REQUEST_ID, str(uuid.uuid4()))
        return filled


def methods(service: ServiceDescriptor) -> dict[str, Method]:
    """The methods of a service, by name."""
    return {descriptor.name: Method.of(descriptor) for descriptor in service.methods}


def _value(field: FieldDescriptor, value: Any) -> Any:
    """What a message's constructor takes: a FieldMask may be said as its paths."""
    kind: Descriptor | None = field.message_type
    mask = kind is not None and kind.full_name == "google.protobuf.FieldMask"
    if kind is not None and mask and isinstance(value, Sequence) and not isinstance(value, Message):
        if isinstance(value, str):
            raise TypeError(f"{field.name} is a list of paths, not {value!r}")
        return GetMessageClass(kind)(paths=value)
    return value


class Throttle:
    """Stops repetitions where most calls fail, so that they do not keep a mesh down (gRFC A6). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = float(TOKENS_MAX)

    def answered(self) -> None:
        """A call ended, well or with an error that is an answer."""
        with self._lock:
            self._tokens = min(TOKENS_MAX, self._tokens + TOKEN_RATIO)

    def failed(self) -> bool:
        """An attempt failed; whether it is worth another."""
        with self._lock:
            self._tokens = max(0.0, self._tokens - 1.0)
            return self._tokens > TOKENS_MAX / 2


class Calling:
    """The attempts of one call."""

    def __init__(self, method: Method, timeout: float | None, throttle: Throttle) -> None:
        """`timeout`: seconds for all of it; None: the contract's. Raises ValueError where it is not above 0."""
        if timeout is not None and not timeout > 0:
            raise ValueError(f"a timeout of {timeout!r} s: it has to be above 0")
        whole = method.timeout_s if timeout is None else timeout
        self.method = method
        self._end = None if whole is None else time.monotonic() + whole
        self._throttle = throttle
        self._failed = 0
        self._renewed = False

    @property
    def left_s(self) -> float | None:
        """Seconds until its deadline; None: it has none."""
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    @property
    def attempt_s(self) -> float | None:
        """How long the next attempt may take: no longer than the contract lets any."""
        left, most = self.left_s, self.method.timeout_s
        return left if most is None or (left is not None and left < most) else most

    def answered(self) -> None:
        """It ended well."""
        self._throttle.answered()

    def pause_s(self, error: Any) -> float:
        """Seconds to wait before the next attempt. Raises the WeftError that is to be told where there is none."""
        told = status.error_of(error, self.method.path)
        self._failed += 1
        wait = self._wait_s(told, status.pushback_s(error))
        if wait is None or (self._end is not None and time.monotonic() + wait >= self._end):
            raise told from error
        return wait

    def is_stale(self, error: Any) -> bool:
        """Whether another token may help; once for each call."""
        told = status.error_of(error, self.method.path)
        stale = isinstance(told, Unauthenticated) and told.reason in _STALE and not self.method.public
        if not stale or self._renewed:
            return False
        self._renewed = True
        return True

    def _wait_s(self, told: WeftError, pushback: float | None) -> float | None:
        said = told.retry_after if pushback is None else pushback
        code = told.failure.code
        if code == "UNAVAILABLE":
            worth = self._throttle.failed() and self._failed < self.method.attempts
            backoff = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** (self._failed - 1)) * random.uniform(0.5, 1.0)
            wait: float | None = backoff if said is None else said
        else:
            self._throttle.answered()
            attempts = {"RESOURCE_EXHAUSTED": ATTEMPTS_MAX, "ABORTED": self.method.attempts}
            worth, wait = self._failed < attempts.get(code, 0), said
        return wait if worth and wait is not None and math.isfinite(wait) else None
