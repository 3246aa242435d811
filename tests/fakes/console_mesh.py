"""A mesh as the console's page sees it: the operations contract over gRPC-web, from memory, beside the built page."""

import binascii
import secrets
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from google.protobuf import empty_pb2, json_format
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from svc.chassis.errors import InvalidArgument
from tests.fakes import console_scene
from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "build" / "console"
EMAIL, PASSWORD = "operator@weft.example", "correct horse"
#: As strict as can be: the page needs nothing but itself.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
TICK_S = 0.2

Handler = Callable[[Any], Message | Iterator[Message]]


class Refused(Exception):  # noqa: N818
    """A status with details, instead of an answer."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.status = status_pb2.Status(code=code.value[0], message=message)
        for detail in details:
            self.status.details.add().Pack(detail)


def refused(code: grpc.StatusCode, message: str, reason: str, *details: Message) -> Refused:
    info = error_details_pb2.ErrorInfo(reason=reason, domain="weft.example")
    return Refused(code, message, info, *details)


class ConsoleMesh:
    """What it shows is `scene`; what is asked of it is in `deeds`."""

    def __init__(self, scene: console_scene.Scene | None = None) -> None:
        self.scene = scene or console_scene.Scene()
        self.deeds: list[Message] = []
        self.scopes = ["mesh.operate", "catalog.read"]
        self.tokens: set[str] = set()
        #: Whether a token is good at all, however new.
        self.takes_tokens = True
        self.refresh_tokens: set[str] = set()
        self.expires_s = 900
        #: The next call of a method, by its name, is answered with this.
        self.failures: dict[str, Refused] = {}
        self.calls: list[str] = []
        #: Streams that are open.
        self.watching = 0
        #: Files of the documents, by their path below /docs/; none: they are not built.
        self.documents: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.stopping = threading.Event()
        self.handlers = self._handlers()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen; after a stop on the same port again."""
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", self._port), _Door)
        self._server.mesh = self  # type: ignore[attr-defined]
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Die: connections break, and nobody listens."""
        assert self._server is not None
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def call(self, path: str, body: bytes, token: str) -> Message | Iterator[Message]:
        """Raises Refused."""
        name = path.rpartition("/")[2]
        self.calls.append(name)
        found = self.handlers.get(path)
        if found is None:
            raise refused(grpc.StatusCode.UNIMPLEMENTED, "no such method", "METHOD_UNKNOWN")
        request_type, handler, public = found
        if not public and not (self.takes_tokens and token in self.tokens):
            raise refused(grpc.StatusCode.UNAUTHENTICATED, "the token is not good", "TOKEN_INVALID")
        if name in self.failures:
            raise self.failures.pop(name)
        return handler(request_type.FromString(body))

    def _handlers(self) -> Mapping[str, tuple[Any, Handler, bool]]:
        scene = self.scene
        operations = "/weft.operations.v1."
        identity = "/weft.identity.v1.IdentityService/"
        return {
            f"{identity}CreateSession": (identity_pb2.CreateSessionRequest, self._sign_in, True),
            f"{identity}RefreshSession": (identity_pb2.RefreshSessionRequest, self._refresh, True),
            f"{identity}DeleteSession": (identity_pb2.DeleteSessionRequest, self._sign_out, False),
            f"{operations}MeshService/WatchMesh": (mesh_pb2.WatchMeshRequest, self._watch, False),
            f"{operations}MeshService/RestartProcess": (mesh_pb2.RestartProcessRequest, self._restart, False),
            f"{operations}MeshService/KillProcess": (mesh_pb2.KillProcessRequest, self._restart, False),
            f"{operations}MeshService/ScaleService": (mesh_pb2.ScaleServiceRequest, self._scale, False),
            f"{operations}MeshService/RollService": (mesh_pb2.RollServiceRequest, self._roll, False),
            f"{operations}AlertService/ListAlerts": (
                alerts_pb2.ListAlertsRequest,
                lambda _: alerts_pb2.ListAlertsResponse(alerts=scene.mesh.alerts),
                False,
            ),
            f"{operations}QueueService/ListQueues": (
                queues_pb2.ListQueuesRequest,
                lambda _: queues_pb2.ListQueuesResponse(queues=scene.mesh.queues),
                False,
            ),
            f"{operations}QueueService/ListDeadLetters": (queues_pb2.ListDeadLettersRequest, scene.letters, False),
            f"{operations}QueueService/GetDeadLetter": (queues_pb2.GetDeadLetterRequest, scene.letter, False),
            f"{operations}QueueService/ReplayDeadLetters": (queues_pb2.ReplayDeadLettersRequest, self._replay, False),
            f"{operations}TraceService/ListTraces": (traces_pb2.ListTracesRequest, self._list_traces, False),
            f"{operations}TraceService/GetTrace": (traces_pb2.GetTraceRequest, scene.trace, False),
            f"{operations}TraceService/ListTraceLogs": (traces_pb2.ListTraceLogsRequest, scene.logs, False),
            f"{operations}MailService/ListMails": (mails_pb2.ListMailsRequest, scene.list_mails, False),
            f"{operations}MailService/GetMail": (mails_pb2.GetMailRequest, scene.mail, False),
            f"{operations}ContractService/GetSchema": (contracts_pb2.GetSchemaRequest, scene.schema, False),
            f"{operations}ContractService/ListMethods": (contracts_pb2.ListMethodsRequest, scene.methods, False),
            "/weft.catalog.v1.CatalogService/GetProduct": (catalog_pb2.GetProductRequest, self._product, False),
        }

    def _session(self) -> identity_pb2.Session:
        session = identity_pb2.Session(
            name="sessions/s1",
            user="users/operator",
            access_token=secrets.token_hex(8),
            refresh_token=secrets.token_hex(8),
            scopes=self.scopes,
        )
        session.expires_in.FromSeconds(self.expires_s)
        self.tokens.add(session.access_token)
        self.refresh_tokens.add(session.refresh_token)
        return session

    def _sign_in(self, request: identity_pb2.CreateSessionRequest) -> Message:
        if (request.email, request.password) != (EMAIL, PASSWORD):
            raise refused(grpc.StatusCode.UNAUTHENTICATED, "the address or the password is wrong", "BAD_CREDENTIALS")
        return self._session()

    def _refresh(self, request: identity_pb2.RefreshSessionRequest) -> Message:
        if request.refresh_token not in self.refresh_tokens:
            raise refused(grpc.StatusCode.UNAUTHENTICATED, "the token is not known", "REFRESH_TOKEN_INVALID")
        self.refresh_tokens.remove(request.refresh_token)
        return self._session()

    def _sign_out(self, request: identity_pb2.DeleteSessionRequest) -> Message:
        self.deeds.append(request)
        return empty_pb2.Empty()

    def _watch(self, _: mesh_pb2.WatchMeshRequest) -> Iterator[Message]:
        stopping = self.stopping
        with self._lock:
            self.watching += 1
        try:
            while not stopping.is_set():
                yield mesh_pb2.WatchMeshResponse(mesh=self.scene.now())
                stopping.wait(TICK_S)
            raise ConnectionAbortedError
        finally:
            with self._lock:
                self.watching -= 1

    def _restart(self, request: Any) -> Message:
        self.deeds.append(request)
        return self.scene.restart(request.name)

    def _scale(self, request: mesh_pb2.ScaleServiceRequest) -> Message:
        self.deeds.append(request)
        return self.scene.scale(request)

    def _roll(self, request: mesh_pb2.RollServiceRequest) -> Message:
        self.deeds.append(request)
        service = self.scene.service(request.name)
        service.rolling = True
        return service

    def _replay(self, request: queues_pb2.ReplayDeadLettersRequest) -> Message:
        self.deeds.append(request)
        return self.scene.replay(request)

    def _list_traces(self, request: traces_pb2.ListTracesRequest) -> Message:
        try:
            return self.scene.list_traces(request)
        except InvalidArgument as error:
            violations = [
                error_details_pb2.BadRequest.FieldViolation(field=field, description=wrong)
                for field, wrong in error.violations
            ]
            details = error_details_pb2.BadRequest(field_violations=violations)
            raise refused(grpc.StatusCode.INVALID_ARGUMENT, str(error), "INVALID_FIELDS", details) from error

    def _product(self, request: catalog_pb2.GetProductRequest) -> Message:
        if request.name == "products/mug":
            return catalog_pb2.Product(name=request.name, display_name="MUG")
        violation = error_details_pb2.BadRequest.FieldViolation(field="name", description="no product is called so")
        raise refused(
            grpc.StatusCode.NOT_FOUND,
            f"there is no {request.name}",
            "PRODUCT_NOT_FOUND",
            error_details_pb2.BadRequest(field_violations=[violation]),
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def mesh(self) -> ConsoleMesh:
        return self.server.mesh  # type: ignore[attr-defined,no-any-return]

    def log_message(self, *_: object) -> None:
        """Say nothing: what matters is in what the tests see."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/v1/"):
            self._json("weft.catalog.v1.CatalogService/GetProduct", catalog_pb2.GetProductRequest(name=path[4:]))
            return
        if path.startswith("/docs/"):
            document = self.mesh.documents.get(path.removeprefix("/docs/") or "index.html")
            self._reply(404 if document is None else 200, document or b"not built", {"content-type": "text/html"})
            return
        file = (PAGE / (path.lstrip("/") or "index.html")).resolve()
        if PAGE not in file.parents or not file.is_file():
            self._reply(404, b"not found", {"content-type": "text/plain"})
            return
        self._reply(200, file.read_bytes(), {"content-type": TYPES[file.suffix], "content-security-policy": POLICY})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        trace = secrets.token_hex(16)
        try:
            answer = self.mesh.call(self.path, body[5:], self._token())
        except Refused as error:
            self._begin(trace)
            self._end(error.status)
            return
        self._begin(trace)
        try:
            for message in [answer] if isinstance(answer, Message) else answer:
                self._chunk(_frame(0, message.SerializeToString()))
            self._end(status_pb2.Status())
        except (ConnectionError, BrokenPipeError):
            self.close_connection = True

    def _token(self) -> str:
        return str(self.headers["authorization"] or "").removeprefix("Bearer ")

    def _json(self, method: str, request: Message) -> None:
        try:
            answer = self.mesh.call(f"/{method}", request.SerializeToString(), self._token())
        except Refused as error:
            status = 404 if error.status.code == code_pb2.NOT_FOUND else 401
            self._reply(status, json_format.MessageToJson(error.status).encode(), {"content-type": "application/json"})
            return
        assert isinstance(answer, Message)
        self._reply(200, json_format.MessageToJson(answer).encode(), {"content-type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body)), "cache-control": "no-store"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _begin(self, trace: str) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/grpc-web+proto")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("x-trace-id", trace)
        self.end_headers()

    def _end(self, status: status_pb2.Status) -> None:
        details = binascii.b2a_base64(status.SerializeToString(), newline=False).rstrip(b"=").decode()
        lines = [
            f"grpc-status: {status.code}",
            f"grpc-message: {status.message}",
            f"grpc-status-details-bin: {details}",
        ]
        self._chunk(_frame(0x80, "".join(f"{line}\r\n" for line in lines).encode()))
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


def _frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BI", kind, len(data)) + data
