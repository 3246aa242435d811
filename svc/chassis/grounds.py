"""Why a call was refused, for `google.rpc.ErrorInfo` and the span: rule, line of the contract, hop and instance.

`call.Method` has one per contract method, and `interceptors/status.py` asks it. Which rule decided follows from how
far the call came through the interceptors: each of them fills in its own field of the `Call`, or refuses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor

from svc.chassis.errors import AppError, DeadlineExceeded, InvalidArgument, PermissionDenied
from weft_protos import grounds, locations, policy

_SUBSCRIPT: Final = re.compile(r"\[[^\]]*\]")
#: Reason of a request above its method's `max_request_bytes`, the same as the gateway's.
TOO_LARGE: Final = "REQUEST_TOO_LARGE"
#: What `interceptors/peer.py` calls a part of the mesh that calls no service. No contract says that one does not.
CALLER_UNKNOWN: Final = "CALLER_UNKNOWN"
_CALLERS_DEADLINE: Final = "deadline: the caller's own"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a call came."""

    admitted: bool
    """The caller is known, or need not be."""
    parsed: bool
    """The request is a message that obeys the contract, and the handler was called with it."""
    own_deadline: bool
    """The caller set a deadline, earlier than the contract's."""
    shed: bool = False
    """It was refused for want of time, before anything was looked at."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What refusals of one method by this process have in common, and what the contract says of it."""

    method: MethodDescriptor
    instance: str
    """`orders-1`; empty: refusals do not name it."""
    scopes: tuple[str, ...]
    """As the contract lists them."""
    timeout_s: float
    request_bytes: int

    def of(self, error: AppError, progress: Progress) -> dict[str, str]:
        """Metadata of an error's ErrorInfo. What a peer refused keeps the peer's grounds: they decided."""
        return {**self._named(*self._rule(error, progress)), **error.metadata}

    def of_fault(self, reason: str) -> dict[str, str]:
        """The same for a fault of ours."""
        return self._named(grounds.service(reason), locations.method(self.method))

    def _named(self, rule: str, contract: str) -> dict[str, str]:
        service = self.method.containing_service.full_name
        found = {
            grounds.METHOD: f"{service}/{self.method.name}",
            grounds.RULE: rule,
            grounds.CONTRACT: contract,
            grounds.HOP: policy.service_owner(service),
            grounds.INSTANCE: self.instance,
        }
        return {key: value for key, value in found.items() if value}

    def _rule(self, error: AppError, progress: Progress) -> tuple[str, str]:
        """The rule, and the line that states it: that of the method where no option or field does."""
        method = self.method
        if progress.shed:
            return grounds.criticality(error.metadata["criticality"]), locations.method(method, "criticality")
        if isinstance(error, DeadlineExceeded):
            if progress.own_deadline:
                return _CALLERS_DEADLINE, locations.method(method)
            return grounds.timeout(self.timeout_s), locations.method(method, "timeout")
        if error.reason == CALLER_UNKNOWN:
            return grounds.service(error.reason), locations.method(method)
        if not progress.admitted:
            return grounds.TOKEN, locations.method(method, "access")
        if not progress.parsed and isinstance(error, PermissionDenied):
            return grounds.scopes(self.scopes), locations.method(method, "access")
        if not progress.parsed and error.reason == TOO_LARGE:
            return grounds.request_bytes(self.request_bytes), locations.method(method, "max_request_bytes")
        if isinstance(error, InvalidArgument):
            return self._request_rule(error, parsed=progress.parsed)
        return grounds.service(error.reason), locations.method(method)

    def _request_rule(self, error: InvalidArgument, *, parsed: bool) -> tuple[str, str]:
        for path, _ in error.violations:
            found = field_at(self.method.input_type, path)
            if found is not None:
                return grounds.field(plain(path)), locations.field(found)
        line = locations.method(self.method)
        return (grounds.service(error.reason) if parsed else grounds.request(self.method.input_type.full_name)), line


def field_at(message: Descriptor, path: str) -> FieldDescriptor | None:
    """The field that `items[1].quantity` leads to; None where it leads nowhere."""
    found: FieldDescriptor | None = None
    inside: Descriptor | None = message
    for name in plain(path).split("."):
        known: Mapping[str, FieldDescriptor] = {} if inside is None else inside.fields_by_name
        found = known.get(name)
        if found is None:
            return None
        inside = found.message_type
    return found


def plain(path: str) -> str:
    """A path without subscripts, as the contract writes it: keys of a map are the caller's words, and not for spans."""
    return _SUBSCRIPT.sub("", path)
