"""One call on its way through the interceptors: what has come in, and what each of them has found out.

`server` makes a `Method` for every contract method at start and a `Call` for every request; `interceptors` fill
it in. Nothing here touches the wire.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from svc.chassis.consistency import Consistency, Session
from svc.chassis.context import Deadline, Principal
from svc.chassis.criticality import Criticality
from svc.chassis.grounds import Grounds, Progress
from weft_protos import lanes, policy
from weft_protos.identity import Identity

# Time limit of a call whose contract states none: of unary calls, and of streams that may stay open. Finite, so
# that whatever is computed from a deadline is finite too.
DEFAULT_TIMEOUT_S = 2.0
STREAM_TIMEOUT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Method:
    """A contract method and its policy, read once at registration."""

    name: str
    """`/weft.orders.v1.OrderService/PlaceOrder`"""
    owner: str
    """The mesh service: `orders`."""
    public: bool
    """No token is asked for."""
    scopes: frozenset[str]
    """A caller needs any one of these."""
    timeout_s: float
    """The longest a call may take."""
    streaming: bool
    """The answer is a stream."""
    request_bytes: int
    """The most bytes of a request, as it is serialized."""
    criticality: Criticality
    """How much its calls matter by themselves."""
    consistency: Consistency
    """How new its answers are."""
    request_type: type[Message]
    """Class of the request."""
    grounds: Grounds
    """What its refusals say of it."""

    @classmethod
    def of(cls, descriptor: MethodDescriptor, *, instance: str) -> "Method":
        """Read descriptor and policy. A method that is neither public nor guarded is a broken contract."""
        service = descriptor.containing_service.full_name
        rules = policy.effective(descriptor)
        if rules.public == bool(rules.scopes):
            raise ValueError(f"{descriptor.full_name} must be public or name scopes")
        default = STREAM_TIMEOUT_S if descriptor.server_streaming else DEFAULT_TIMEOUT_S
        timeout_s = rules.timeout.ToTimedelta().total_seconds() or default
        most = policy.request_bytes(rules)
        return cls(
            name=f"/{service}/{descriptor.name}",
            owner=policy.service_owner(service),
            public=rules.public,
            scopes=frozenset(rules.scopes),
            timeout_s=timeout_s,
            streaming=descriptor.server_streaming,
            request_bytes=most,
            criticality=Criticality.of(rules),
            consistency=Consistency.of(rules),
            request_type=GetMessageClass(descriptor.input_type),
            grounds=Grounds(descriptor, instance, tuple(rules.scopes), timeout_s, most),
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call ends when it ends badly: a status, ready for the wire."""

    code: str
    """Name of the gRPC code: `NOT_FOUND`."""
    message: str
    """For people."""
    details: bytes
    """Serialized `google.rpc.Status`, for programs."""
    reason: str
    """The constant of its `google.rpc.ErrorInfo`."""
    grounds: Mapping[str, str]
    """The metadata of its `google.rpc.ErrorInfo`."""
    pushback_ms: int | None = None
    """When the client library may try again by itself; None says nothing."""


@dataclass(slots=True)
class Call:
    """One call. Fields below `shown` are filled in by the interceptors, in their order."""

    method: Method
    metadata: Mapping[str, tuple[str, ...]] = field(repr=False)
    """Text metadata by key; binary entries are left out."""
    body: bytes = field(repr=False)
    """The request as it came."""
    time_left_s: float | None
    """Until the client's deadline; None where it set none."""
    is_active: Callable[[], bool]
    """Whether the client still waits."""
    criticality: Criticality = Criticality.DEFAULT
    """How much it matters: as the method says, or the call that led to it."""
    shed: bool = False
    """There is too much to do, and this call is not to be served."""
    hurried: bool = False
    """It is not to be served for its caller's own deadline alone: others have the time to wait."""
    shown: str | None = None
    """URI of the certificate that whoever made the hop has shown; empty: one without. None: hops are in clear."""
    refusal: Refusal | None = None
    """Filled in by `status`."""
    deadline: Deadline | None = None
    """Filled in by `deadline`."""
    peer: Identity | None = None
    """Filled in by `peer`."""
    principal: Principal | None = None
    """Filled in by `principal`."""
    message: Message | None = field(default=None, repr=False)
    """The parsed request; filled in by `validation`."""
    body_hash: bytes = field(default=b"", repr=False)
    """SHA-256 of the request's deterministic serialisation; filled in by `validation`."""
    session: Session = field(default_factory=Session)
    """What its reads are promised, and how far it has written; filled in before the handler is called."""

    @property
    def lane(self) -> str:
        """The lane it goes by, as the gateway or a peer says; empty: none."""
        said = self.header(lanes.HEADER)
        return said if said and lanes.is_name(said) else ""

    @property
    def progress(self) -> Progress:
        """How far the interceptors let it come."""
        return Progress(
            admitted=self.method.public or self.principal is not None,
            parsed=self.message is not None,
            shed=self.shed,
            own_deadline=self.time_left_s is not None and self.time_left_s < self.method.timeout_s,
        )

    def header(self, key: str) -> str:
        """The only value of a metadata key; empty where there is none or more than one."""
        values = self.metadata.get(key, ())
        return values[0] if len(values) == 1 else ""


class Interceptor(Protocol):
    """Surrounds calls of one method: looks before, sees the outcome after. It refuses by raising an AppError."""

    def __call__(self, call: Call) -> AbstractContextManager[None]:
        """The two halves around one call."""
        ...


class Verifier(Protocol):
    """Turns a token into a principal; `tokens.TokenVerifier`."""

    def verify(self, token: str) -> Principal:
        """Raises Unauthenticated for a token that is not valid."""
        ...

    def refuse_revoked(self, principal: Principal) -> None:
        """Raises Unauthenticated where the token was revoked since it was verified. For streams, which outlive that."""
        ...


Builder = Callable[[Method, Verifier], Interceptor]
