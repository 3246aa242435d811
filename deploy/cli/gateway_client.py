"""A client of the gateway for the command line: signs the operator in, acts for users, repeats what may be repeated.

Used by `weft token`, `weft replay` and `weft demo`. Thread-safe: one client serves all threads of a run.
"""

import importlib.metadata
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from deploy.supervisor import certificate
from deploy.supervisor.layout import Layout
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft_protos import consumer

Answer = TypeVar("Answer", bound=Message)
Call = Callable[..., Any]

#: Codes after which the same call may be sent again: it left no effect, or carries a request id that makes it safe.
REPEATABLE: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)

#: What the command line calls itself at the services.
CLIENT: Final = "weft-cli"
#: One attempt may take as long as the gateway lets any method take.
ATTEMPT_TIMEOUT_S: Final = 10.0
#: How long a call is repeated before it counts as failed: longer than any part needs to come back.
PATIENCE_S: Final = 120.0
BACKOFF_FIRST_S: Final = 0.05
BACKOFF_MAX_S: Final = 2.0
#: A token this close to its end is renewed before it is used.
RENEW_BEFORE_S: Final = 60.0
#: Connections beside each other, so that both gateways behind the port carry load.
CHANNELS: Final = 4


class SignInError(RuntimeError):
    """The operator could not sign in; the message names the cause and the fix."""


@dataclass(slots=True)
class Token:
    """An access token and the monotonic time at which it must be renewed."""

    value: str
    renew_at: float

    @classmethod
    def of(cls, session: identity_pb2.Session) -> "Token":
        """The token of a session that was answered just now."""
        lifetime = session.expires_in.seconds
        return cls(session.access_token, time.monotonic() + max(1.0, lifetime - RENEW_BEFORE_S))


@dataclass
class Counters:
    """What the calls of one run cost. Durations are in seconds, the waiting for repetitions included."""

    durations: list[float] = field(default_factory=list)
    repetitions: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, seconds: float) -> None:
        """Count one answered call."""
        with self.lock:
            self.durations.append(seconds)

    def repeated(self, code: grpc.StatusCode) -> None:
        """Count one attempt that was answered with a repeatable code."""
        with self.lock:
            self.repetitions[code.name] = self.repetitions.get(code.name, 0) + 1


@dataclass(frozen=True, slots=True)
class Trusted:
    """By what a gateway of this machine is known over TLS, whatever address it is called at."""

    roots: bytes
    """Certificates, PEM."""
    name: str

    @classmethod
    def of(cls, layout: Layout) -> "Trusted":
        """The certificate that is on disk, and who signs the next one. Raises OSError."""
        shown = (layout.edge_tls / "tls.crt").read_text()
        authority = layout.authority.read_text() if layout.authority.exists() else ""
        name = next(iter(certificate.names(certificate.Pair(shown, ""))), "localhost")
        return cls(f"{shown}\n{authority}".encode(), name.replace("*", "weft"))


class GatewayClient:
    """Calls through the gateway with the operator's credentials, or with a token that acts for a user."""

    def __init__(
        self,
        address: str,
        *,
        email: str,
        password: str,
        trusted: "Trusted | None" = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`trusted`: whom to speak TLS with; None: in clear. `patience_s`: how long a call is repeated."""
        self._patience_s = patience_s
        self._email = email
        self._password = password
        self._name = consumer.declare(CLIENT, importlib.metadata.version("weft"))
        self._channels = [channel(address, trusted) for _ in range(CHANNELS)]
        self._lock = threading.Lock()
        self._tokens: dict[str | None, Token] = {}
        self._renewing: dict[str | None, threading.Lock] = {}
        self.counters = Counters()
        self.stopping = threading.Event()

    @classmethod
    def for_operator(cls, address: str, secrets: Path, *, patience_s: float = PATIENCE_S) -> "GatewayClient":
        """A client with the operator's credentials of a mesh; `address` as its status says it, over TLS if `https://`.

        Raises SignInError where the credentials are not readable.
        """
        try:
            email = (secrets / "operator.email").read_text().strip()
            password = (secrets / "operator.password").read_text().strip()
            trusted = Trusted.of(Layout(secrets.parent)) if address.startswith("https://") else None
        except OSError as error:
            raise SignInError(
                f"the operator's credentials are not readable: {error}; start the mesh with `weft up`, or "
                "run as the user who started it"
            ) from error
        plain = address.removeprefix("https://")
        return cls(plain, email=email, password=password, trusted=trusted, patience_s=patience_s)

    def channel(self, key: str = "") -> grpc.Channel:
        """The connection for a key; one key always gets the same."""
        return self._channels[hash(key) % len(self._channels)]

    def close(self) -> None:
        """Close every connection."""
        for channel in self._channels:
            channel.close()

    def sign_in(self, *scopes: str) -> identity_pb2.Session:
        """A new session of the operator, with fewer scopes where some are named. Raises SignInError."""
        stub = identity_pb2_grpc.IdentityServiceStub(self.channel())
        request = identity_pb2.CreateSessionRequest(email=self._email, password=self._password, scopes=scopes)
        try:
            session: identity_pb2.Session = self._repeat(stub.CreateSession, request, None)
        except grpc.RpcError as error:
            raise SignInError(f"the operator could not sign in: {describe(error)}") from error
        return session

    def delegate(self, user: str, *scopes: str) -> identity_pb2.Session:
        """A session that acts for a user; needs the operator's scope `mesh.operate`."""
        stub = identity_pb2_grpc.IdentityServiceStub(self.channel(user))
        request = identity_pb2.DelegateSessionRequest(name=f"users/{user}", scopes=scopes)
        session: identity_pb2.Session = self.call(stub.DelegateSession, request)
        return session

    def call(self, method: Call, request: Message, *, user: str | None = None) -> Any:
        """Call a stub's method as the operator, or as `user`, until it is answered with something final.

        Raises grpc.RpcError where the answer is an error that no repetition changes, or where its patience ran out.
        """
        started = time.monotonic()
        try:
            answer = self._repeat(method, request, lambda: self._token(user))
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
                raise
            # The token was good when it was issued: its key or its session was revoked since.
            self._forget(user)
            answer = self._repeat(method, request, lambda: self._token(user))
        self.counters.done(time.monotonic() - started)
        return answer

    def _forget(self, user: str | None) -> None:
        """The next call asks for a new token, and if it has to, as an operator who signs in anew."""
        with self._lock:
            for key in {user, None}:
                self._tokens.pop(key, None)

    def _token(self, user: str | None) -> str:
        """A token that is good for a while; threads that want the same one share one renewal."""
        with self._lock:
            renewing = self._renewing.setdefault(user, threading.Lock())
        with renewing:
            token = self._tokens.get(user)
            if token is None or token.renew_at <= time.monotonic():
                token = Token.of(self.sign_in() if user is None else self.delegate(user))
                self._tokens[user] = token
            return token.value

    def _repeat(self, method: Call, request: Message, token: Callable[[], str] | None) -> Any:
        give_up = time.monotonic() + self._patience_s
        backoff = BACKOFF_FIRST_S
        while True:
            try:
                metadata = [self._name]
                if token is not None:
                    metadata.append(("authorization", f"Bearer {token()}"))
                return method(request, timeout=ATTEMPT_TIMEOUT_S, metadata=metadata)
            except grpc.RpcError as error:
                wait = retry_delay(error)
                delay = backoff * random.uniform(0.5, 1.0) if wait is None else wait
                if error.code() not in REPEATABLE or time.monotonic() + delay > give_up:
                    raise
                self.counters.repeated(error.code())
                if self.stopping.wait(delay):
                    raise
                backoff = min(BACKOFF_MAX_S, backoff * 2)


def channel(address: str, trusted: Trusted | None, *more: tuple[str, str | int]) -> grpc.Channel:
    """A connection of its own to the gateways. `more`: further options of gRPC's."""
    options: list[tuple[str, str | int]] = [
        *more,
        ("grpc.use_local_subchannel_pool", 1),
        # The gateways are on this machine, whatever proxy the shell names.
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 5000),
        ("grpc.http2.ping_timeout_ms", 2000),
        ("grpc.primary_user_agent", CLIENT),
    ]
    if trusted is None:
        return grpc.insecure_channel(address, options=options)
    credentials = grpc.ssl_channel_credentials(trusted.roots)
    return grpc.secure_channel(address, credentials, [*options, ("grpc.ssl_target_name_override", trusted.name)])


def retry_delay(error: grpc.RpcError) -> float | None:
    """Seconds the server asks to wait (google.rpc.RetryInfo), or None where it says nothing."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            delay: float = info.retry_delay.ToNanoseconds() / 1e9
            return delay
    return None


def describe(error: grpc.RpcError) -> str:
    """One line for people: code, message, and the fields or reasons that the details name."""
    parts = [f"{error.code().name}: {error.details()}"]
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        bad = error_details_pb2.BadRequest()
        info = error_details_pb2.ErrorInfo()
        failure = error_details_pb2.PreconditionFailure()
        if detail.Unpack(bad):
            parts += [f"{violation.field}: {violation.description}" for violation in bad.field_violations]
        elif detail.Unpack(info):
            parts.append(f"reason {info.reason}")
        elif detail.Unpack(failure):
            parts += [f"{violation.subject}: {violation.description}" for violation in failure.violations]
    return "; ".join(parts)
