"""The same call over every wire the gateway speaks, and its answer in one form, so that tests can compare them.

`edge` is the fixture: import it into a test module. No generated client hides the wire here: gRPC-web frames and
trailers are taken apart byte by byte, and JSON requests are built from the contract's own google.api.http.
"""

import base64
import contextlib
import http.client
import json
import re
import ssl
import struct
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote, urlencode

import grpc
import pytest
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from deploy.cli.gateway_client import GatewayClient, Token
from deploy.supervisor.mesh import Mesh
from tests.waiting import eventually
from weft.identity.v1 import identity_pb2, identity_pb2_grpc
from weft_protos import policy

TIMEOUT_S: Final = 20.0
OK, INVALID, NOT_FOUND, EXISTS, DENIED, EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED = 0, 3, 5, 6, 7, 8, 12, 16
#: HTTP status of a JSON answer by gRPC code.
HTTP: Final = {OK: 200, INVALID: 400, NOT_FOUND: 404, EXISTS: 409, DENIED: 403, EXHAUSTED: 429, UNAUTHENTICATED: 401}
TRAILERS: Final = 0x80

METHODS: Final = tuple(method for service in policy.SERVICES for method in service.methods)


def method(name: str) -> MethodDescriptor:
    """The method with a name, `PlaceOrder`."""
    return next(one for one in METHODS if one.name == name)


@dataclass(frozen=True)
class Target:
    """A request in the two forms it has: protobuf for a method's path, JSON for an HTTP path."""

    path: str
    body: bytes
    verb: str
    url: str
    json: bytes | None
    answer: type[Message] = Empty
    streaming: bool = False

    @classmethod
    def of(cls, descriptor: MethodDescriptor, request: Message) -> "Target":
        """The request of a contract's method."""
        verb, url, body = _transcoded(descriptor, request)
        return cls(
            path=f"/{descriptor.containing_service.full_name}/{descriptor.name}",
            body=request.SerializeToString(),
            verb=verb,
            url=url,
            json=body,
            answer=GetMessageClass(descriptor.output_type),
            streaming=descriptor.server_streaming,
        )


def wherever(detail: Message) -> Message:
    """A detail without the name of the instance that gave it."""
    if not isinstance(detail, error_details_pb2.ErrorInfo):
        return detail
    copy = error_details_pb2.ErrorInfo()
    copy.CopyFrom(detail)
    copy.metadata.pop("instance", None)
    return copy


@dataclass(frozen=True)
class Answer:
    """What came back, whatever the wire."""

    code: int
    message: str = ""
    details: tuple[Message, ...] = ()
    answers: tuple[Message, ...] = ()
    http: int | None = None
    """HTTP status, where the wire shows one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers and trailers, names in lower case."""

    @property
    def error(self) -> tuple[int, str, tuple[Message, ...]]:
        """What must be the same on every wire when a call fails: all but the instance that chance chose."""
        return self.code, self.message, tuple(map(wherever, self.details))

    def detail(self, kind: type[Message]) -> Any:
        """The detail of a type; fails where there is not exactly one."""
        (found,) = (one for one in self.details if isinstance(one, kind))
        return found

    @property
    def reason(self) -> str:
        """The constant of google.rpc.ErrorInfo."""
        return str(self.detail(error_details_pb2.ErrorInfo).reason)

    @property
    def fields(self) -> list[str]:
        """The fields that google.rpc.BadRequest names."""
        return [one.field for one in self.detail(error_details_pb2.BadRequest).field_violations]


class Wire(Protocol):
    """One way to call."""

    name: str

    def call(self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request and wait for its end."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


def _with_token(headers: Mapping[str, str] | None, token: str | None) -> dict[str, str]:
    return dict(headers or {}) | ({"authorization": f"Bearer {token}"} if token is not None else {})


def _details(status: status_pb2.Status) -> tuple[Message, ...]:
    found = []
    for packed in status.details:
        detail = getattr(error_details_pb2, packed.TypeName().rsplit(".", 1)[-1])()
        assert packed.Unpack(detail)
        found.append(detail)
    return tuple(found)


def _decoded(packed: str) -> status_pb2.Status:
    return status_pb2.Status.FromString(base64.b64decode(packed + "=" * (-len(packed) % 4)))


class Native:
    """gRPC over HTTP/2 as grpcio speaks it, at the gateway or straight at an instance."""

    name = "grpc"

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=options)

    def call(self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        make = self._channel.unary_stream if target.streaming else self._channel.unary_unary
        stub: Any = make(target.path, request_serializer=None, response_deserializer=target.answer.FromString)
        metadata = tuple(_with_token(headers, token).items())
        answers: list[Message] = []
        try:
            if target.streaming:
                running: Any = stub(target.body, metadata=metadata, timeout=TIMEOUT_S)
                answers.append(next(running))
                running.cancel()
            else:
                answer, running = stub.with_call(target.body, metadata=metadata, timeout=TIMEOUT_S)
                answers.append(answer)
        except grpc.RpcError as error:
            return self.refusal(error)
        return Answer(OK, answers=tuple(answers), headers=self._headers(running))

    @classmethod
    def refusal(cls, error: Any) -> Answer:
        """What a grpc.RpcError of a call says."""
        trailers = dict(error.trailing_metadata() or ())
        status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
        code: int = error.code().value[0]
        if trailers.get("grpc-status-details-bin"):
            assert (code, error.details()) == (status.code, status.message)
        return Answer(code, error.details() or "", _details(status), headers=cls._headers(error))

    @staticmethod
    def _headers(call: Any) -> dict[str, str]:
        pairs = (*(call.initial_metadata() or ()), *(call.trailing_metadata() or ()))
        return {key: value for key, value in pairs if isinstance(value, str)}

    def close(self) -> None:
        self._channel.close()


class _Http:
    """One HTTP/1.1 connection after another to the gateway."""

    def __init__(self, address: str, context: ssl.SSLContext | None = None, *, source: str = "") -> None:
        """`source`: the address to call from, in clear."""
        if context is None:
            own = (source, 0) if source else None
            self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_S, source_address=own)
        else:
            self._connection = http.client.HTTPSConnection(address, timeout=TIMEOUT_S, context=context)

    def send(self, verb: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """The answer, its body still unread."""
        self._connection.close()
        # Who refuses a body for its size does not read all of it; the answer is there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(verb, url, body=body, headers=dict(headers))
        return self._connection.getresponse()

    def close(self) -> None:
        self._connection.close()


class Web(_Http):
    """gRPC-web as a browser frames it: `binary` or `text`."""

    def __init__(self, address: str, *, text: bool = False, context: ssl.SSLContext | None = None) -> None:
        super().__init__(address, context)
        self._text = text
        self.name = "grpc-web-text" if text else "grpc-web"
        self._type = f"application/{self.name}+proto" if not text else "application/grpc-web-text"

    def call(self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        frame = struct.pack(">BI", 0, len(target.body)) + target.body
        own = {"content-type": self._type, "accept": self._type, "x-grpc-web": "1", "x-user-agent": "grpc-web-test"}
        body = base64.b64encode(frame) if self._text else frame
        response = self.send("POST", target.path, body, own | _with_token(headers, token))
        found = {key.lower(): value for key, value in response.getheaders()}
        messages: list[Message] = []
        for flag, content in self._frames(response):
            if flag & TRAILERS:
                found |= _trailers(content)
                break
            messages.append(target.answer.FromString(content))
            if target.streaming:
                return Answer(OK, answers=tuple(messages), http=response.status, headers=found)
        return self.refusal(response.status, found, tuple(messages))

    @staticmethod
    def refusal(status: int, headers: Mapping[str, str], messages: tuple[Message, ...] = ()) -> Answer:
        """What the trailers of a gRPC answer say, whether they came as such or as headers."""
        said = _decoded(headers.get("grpc-status-details-bin", ""))
        message = unquote(headers.get("grpc-message", ""))
        return Answer(int(headers.get("grpc-status", OK)), message, _details(said), messages, status, headers)

    def _frames(self, response: http.client.HTTPResponse) -> Iterator[tuple[int, bytes]]:
        left = b""
        while True:
            while len(left) >= 5 and len(left) >= 5 + (size := struct.unpack(">I", left[1:5])[0]):
                yield left[0], left[5 : 5 + size]
                left = left[5 + size :]
            chunk = self._chunk(response)
            if not chunk:
                assert b"" == left, "a truncated frame"
                return
            left += chunk

    def _chunk(self, response: http.client.HTTPResponse) -> bytes:
        chunk = response.read1(1 << 16)
        if not self._text:
            return chunk
        while len(chunk) % 4:
            more = response.read1(1 << 16)
            assert more, "base64 ends inside a group"
            chunk += more
        # Each part of a text stream may be padded by itself.
        return b"".join(base64.b64decode(part) for part in re.findall(rb"[^=]+={0,2}", chunk))


def _trailers(content: bytes) -> dict[str, str]:
    lines = filter(None, content.decode().split("\r\n"))
    return {key.strip().lower(): value.strip() for key, value in (line.split(":", 1) for line in lines)}


class Json(_Http):
    """JSON over HTTP/1.1."""

    name = "json"

    def call(self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        own = {"content-type": "application/json"} if target.json is not None else {}
        response = self.send(target.verb, target.url, target.json, own | _with_token(headers, token))
        found = {key.lower(): value for key, value in response.getheaders()}
        if response.status == HTTP[OK]:
            text = response.readline() if target.streaming else response.read()
            return Answer(OK, answers=(json_format.Parse(text, target.answer()),), http=response.status, headers=found)
        assert "application/json" == found["content-type"]
        return self.refusal(response.status, response.read(), found)

    @staticmethod
    def refusal(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
        """What the body of a refusal says."""
        said = json_format.Parse(content, status_pb2.Status())
        return Answer(said.code, said.message, _details(said), (), status, headers)


def _transcoded(descriptor: MethodDescriptor, request: Message) -> tuple[str, str, bytes | None]:
    """Verb, path with query, and body that stand for a request by the method's google.api.http."""
    rule = descriptor.GetOptions().Extensions[annotations_pb2.http]
    verb = str(rule.WhichOneof("pattern"))
    rest: dict[str, Any] = json_format.MessageToDict(request)
    path = getattr(rule, verb)
    for name in re.findall(r"\{([^}=]+)", path):
        holder, _, leaf = name.rpartition(".")
        owner: Any = getattr(request, holder) if holder else request
        path = re.sub(rf"\{{{name}(=[^}}]*)?\}}", quote(getattr(owner, leaf), safe="/"), path)
        (rest.get(holder, {}) if holder else rest).pop(leaf, None)
    body: bytes | None = None
    if rule.body == "*":
        body, rest = json.dumps(rest).encode(), {}
    elif rule.body:
        body = json.dumps(rest.pop(rule.body, {})).encode()
    query = urlencode([pair for key, value in rest.items() for pair in _flat(key, value)])
    return verb.upper(), f"{path}?{query}" if query else path, body


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for inner, item in value.items():
            yield from _flat(f"{key}.{inner}", item)
    elif isinstance(value, list):
        yield from ((key, str(item)) for item in value)
    else:
        yield key, str(value)


@dataclass
class Edge:
    """The gateway of a mesh, called over all wires, and the people who call."""

    mesh: Mesh
    operator: GatewayClient
    address: str
    wires: Sequence[Wire]
    _tokens: dict[tuple[str, frozenset[str]], Token] = field(default_factory=dict)

    @classmethod
    def of(cls, mesh: Mesh, operator: GatewayClient) -> "Edge":
        """All wires to the gateway in clear."""
        address = mesh.gateway
        return cls(mesh, operator, address, (Native(address), Web(address), Web(address, text=True), Json(address)))

    @property
    def secrets(self) -> Path:
        """The credentials of the mesh."""
        return self.mesh.secrets

    def token(self, *scopes: str, user: str = "") -> str:
        """A token of the operator, or one that acts for a user, with just these scopes; none: all that there are."""
        key = user, frozenset(scopes)
        if key not in self._tokens or self._tokens[key].renew_at < time.monotonic():
            session = self.operator.delegate(user, *scopes) if user else self.operator.sign_in(*scopes)
            assert not scopes or set(scopes) == set(session.scopes)
            self._tokens[key] = Token.of(session)
        return self._tokens[key].value

    def new_user(self) -> str:
        """A customer that nobody else uses, by id."""
        user = f"edge-{uuid.uuid4().hex[:16]}"
        stub = identity_pb2_grpc.IdentityServiceStub(self.operator.channel())
        self.operator.call(
            stub.CreateUser,
            identity_pb2.CreateUserRequest(user_id=user, email=f"{user}@example.com", password=uuid.uuid4().hex),
        )
        return user

    def ask(self, wire: Wire, target: Target, token: str | None = None) -> Answer:
        """Call, again where another caller's load had used up a limit both share."""
        found: list[Answer] = []

        def answered() -> bool:
            found.append(wire.call(target, token))
            return found[-1].code != EXHAUSTED

        eventually(answered)
        return found[-1]

    def everywhere(
        self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Answer]:
        """The answers of all wires to one request, by wire."""
        return {wire.name: wire.call(target, token, headers) for wire in self.wires}

    def refused(
        self, target: Target, token: str | None = None, headers: Mapping[str, str] | None = None, *, http: int
    ) -> Answer:
        """The one error that all wires answer with; JSON's HTTP status must be `http`, that of gRPC-web 200."""
        answers = self.everywhere(target, token, headers)
        native = answers["grpc"]
        assert native.code != OK
        assert dict.fromkeys(answers, native.error) == {name: one.error for name, one in answers.items()}
        assert [200, 200, http] == [answers[name].http for name in ("grpc-web", "grpc-web-text", "json")]
        return native


@pytest.fixture(scope="module")
def edge(mesh: Mesh, operator: GatewayClient) -> Iterator[Edge]:
    """The gateway, over every wire."""
    made = Edge.of(mesh, operator)
    yield made
    for wire in made.wires:
        wire.close()


@dataclass(frozen=True)
class Instances:
    """The service instances, called past the gateway."""

    by_service: Mapping[str, Sequence[Native]]

    def ask(self, target: Target, token: str | None) -> list[Answer]:
        """The answers of every instance of the target's service, to a caller who claims to be the gateway too."""
        service = policy.service_owner(target.path.split("/")[1])
        return [one.call(target, token, {"x-user": "operator", "x-scopes": "*"}) for one in self.by_service[service]]


@pytest.fixture(scope="module")
def instances(mesh: Mesh) -> Iterator[Instances]:
    """Every instance of every service."""
    found: dict[str, list[Native]] = {}
    for process in mesh.status().processes:
        if process.kind == "service":
            found.setdefault(process.service, []).append(Native(process.address))
    yield Instances(found)
    for wire in (one for wires in found.values() for one in wires):
        wire.close()
