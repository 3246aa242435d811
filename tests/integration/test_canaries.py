"""Canaries: values that nobody else has, put into every marked field and every wrong place, and looked for everywhere.

A secret may be nowhere, be it in a file, a page, a process or an answer. What tells who somebody is may be where
`KEEPERS` says, and only there.
"""

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor import procfs
from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database
from tests.integration.edge_calls import (
    EXHAUSTED,
    EXISTS,
    INVALID,
    OK,
    UNAUTHENTICATED,
    Answer,
    Edge,
    Target,
    Wire,
    method,
)
from tests.integration.edge_calls import edge as edge
from tests.integration.shop import Customer, Shop, read, traceparent
from tests.waiting import eventually
from weft.events.v1.envelope_pb2 import Envelope
from weft.identity.v1 import identity_pb2
from weft.identity.v1.events_pb2 import UserCreated
from weft_protos.redaction import MARK
from worker.handlers.audit import log

pytestmark = pytest.mark.calls

#: Data directories that hold what tells who somebody is, each with its reason.
KEEPERS: Final[Mapping[str, str]] = {
    "postgres-1": "users in identity's database, its outbox, and the recipients of mail",
    "rabbitmq-1": "UserCreated on its way to the e-mail worker, which needs the address",
    "mail": "the mailbox that all mail goes to",
}
WIRES: Final = ("grpc", "grpc-web", "grpc-web-text", "json")
SIGN_IN: Final = "weft.identity.v1.IdentityService/CreateSession"


@dataclass
class Planted:
    """The canaries: what was put where, by a name that a failing test may show. All begin alike, but for tokens."""

    run: str = field(default_factory=lambda: f"c{uuid.uuid4().hex[:15]}")
    secret: dict[str, str] = field(default_factory=dict, repr=False)
    personal: dict[str, str] = field(default_factory=dict, repr=False)
    refusals: list[tuple[str, Answer]] = field(default_factory=list, repr=False)
    users: list[str] = field(default_factory=list)
    """Resource names."""
    traces: list[str] = field(default_factory=list)

    def hide(self, what: str, value: str = "") -> str:
        """A secret."""
        self.secret[what] = value or self._new()
        return self.secret[what]

    def person(self, what: str) -> str:
        """A part of a name or an address."""
        self.personal[what] = self._new()
        return self.personal[what]

    def _new(self) -> str:
        return f"{self.run}{len(self.secret) + len(self.personal):04d}"

    def found(self, text: str | bytes, *, personal: bool = True) -> list[str]:
        """The names of the canaries in a text."""
        raw = text if isinstance(text, bytes) else text.encode()
        begun = self.run.encode() in raw
        return [
            what
            for what, value in (self.secret | (self.personal if personal else {})).items()
            if (begun or not value.startswith(self.run)) and value.encode() in raw
        ]


class Caller:
    """Somebody who does everything wrong over one wire."""

    def __init__(self, wire: Wire, planted: Planted) -> None:
        self.wire = wire
        self.planted = planted

    def ask(self, name: str, request: Message, expected: int, *, token: str | None = None, **headers: str) -> Answer:
        """Call a method, which must answer with that code. Waits where another test has used up a shared limit."""
        target = Target.of(method(name), request)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        found: list[Answer] = []

        def answered() -> bool:
            found.append(self.wire.call(target, token, named))
            return found[-1].code != EXHAUSTED

        eventually(answered)
        answer = found[-1]
        assert expected == answer.code, (self.wire.name, name, answer.reason if answer.code else "")
        if answer.code != OK:
            self.planted.refusals.append((f"{self.wire.name} {name}", answer))
        if "x-trace-id" in answer.headers:
            self.planted.traces.append(answer.headers["x-trace-id"])
        return answer

    def go(self) -> Customer:
        """Sign up, sign in, refresh, change one's name, and do each of it wrong."""
        wire, plant = self.wire.name, self.planted
        user = f"canary-{uuid.uuid4().hex[:16]}"
        plant.users.append(f"users/{user}")
        email = f"{plant.person(f'{wire} address')}@example.com"
        name, password = plant.person(f"{wire} name"), plant.hide(f"{wire} password")
        new = identity_pb2.CreateUserRequest(user_id=user, email=email, display_name=name, password=password)
        self.ask("CreateUser", new, OK)
        self._sign_up_wrong(new)

        sign_in = identity_pb2.CreateSessionRequest(email=email, password=plant.hide(f"{wire} wrong password"))
        self.ask("CreateSession", sign_in, UNAUTHENTICATED)
        sign_in.password = password
        session = self._session(self.ask("CreateSession", sign_in, OK), "first")
        refresh = identity_pb2.RefreshSessionRequest(refresh_token=plant.hide(f"{wire} forged refresh token"))
        self.ask("RefreshSession", refresh, UNAUTHENTICATED)
        refresh.refresh_token = session.refresh_token
        session = self._session(self.ask("RefreshSession", refresh, OK), "second")
        self._change(user, session.access_token)
        return Customer(user, email, password, session)

    def _session(self, answer: Answer, which: str) -> identity_pb2.Session:
        session: Any = answer.answers[0]
        wire = self.wire.name
        self.planted.hide(f"{wire} {which} access token", session.access_token)
        self.planted.hide(f"{wire} {which} signature", session.access_token.rpartition(".")[2])
        self.planted.hide(f"{wire} {which} refresh token", session.refresh_token)
        return session

    def _sign_up_wrong(self, taken: identity_pb2.CreateUserRequest) -> None:
        wire, plant = self.wire.name, self.planted
        again = identity_pb2.CreateUserRequest()
        again.CopyFrom(taken)
        again.password = plant.hide(f"{wire} password of a user that exists")
        self.ask("CreateUser", again, EXISTS)
        long = identity_pb2.CreateUserRequest(
            email=f"{plant.person(f'{wire} malformed address')} {plant.hide(f'{wire} password in an address')}",
            display_name=plant.person(f"{wire} name with a control character") + "\x07",
            password=plant.hide(f"{wire} password that is too long") * 8,
        )
        self.ask("CreateUser", long, INVALID)
        short = identity_pb2.CreateSessionRequest(email="x", password=plant.hide(f"{wire} password without a user"))
        short.scopes.append(plant.hide(f"{wire} password among scopes"))
        self.ask("CreateSession", short, INVALID)

    def _change(self, user: str, token: str) -> None:
        wire, plant = self.wire.name, self.planted
        name = f"users/{user}"
        person = identity_pb2.User(name=name, display_name=plant.person(f"{wire} new name"))
        mask = FieldMask(paths=["display_name"])
        headers = {key: plant.hide(f"{wire} in the header {key}") for key in ("cookie", "x_request_id", "referer")}
        request = identity_pb2.UpdateUserRequest(user=person, update_mask=mask)
        self.ask("UpdateUser", request, OK, token=token, **headers)
        self.ask("GetUser", identity_pb2.GetUserRequest(name=name), UNAUTHENTICATED, token=plant.hide(f"{wire} bearer"))
        self.ask("GetUser", identity_pb2.GetUserRequest(name=name), UNAUTHENTICATED, token=f"{token}x")


def in_wrong_places(edge: Edge, planted: Planted) -> None:
    """What has no form on the other wires: each is refused, and told back at the most to whoever sent it."""
    _, web, _, plain = edge.wires
    typed = {"content-type": "application/json"}

    def status(wire: Any, verb: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> int:
        """Of the answer, once no other test has used up a shared limit."""
        found: list[int] = []

        def answered() -> bool:
            response = wire.send(verb, path, body, headers)
            planted.traces.append(response.headers["x-trace-id"])
            found.append(response.status)
            return found[-1] != 429

        eventually(answered)
        return found[-1]

    def text(what: str) -> str:
        return planted.hide(f"json, {what}")

    bodies = (
        f'{{"{text("as a key")}": 1}}',
        f'{{"email": "a@example.com", "password": ["{text("in a list")}"]}}',
        f'{{"email": {{"{text("as a key below a string")}": 1}}}}',
        f'{{"email": "a@example.com", "password": "{text("in an unfinished body")}',
        f'{{"scopes": [1, "{text("in a list of another type")}"]}}',
        f'{{"email": "a", "password": "{text("given twice")}", "password": "{text("given again")}"}}',
    )
    for body in bodies:
        assert 400 == status(plain, "POST", "/v1/sessions", body.encode(), typed)
    for path, expected in (
        (f"/v1/nosuch/{text('in an unknown path')}", 404),
        (f"/v1/products?page_size={text('in a query')}", 400),
        (f"/v1/products?{text('as the name of a parameter')}=1", 400),
    ):
        assert expected == status(plain, "GET", path, None, {"user-agent": text(f"as the user agent for {path}")})
    assert 400 == status(plain, "POST", f"/v1/sessions?password={text('in the query of a post')}", b"{}", typed)

    def framed(content: bytes) -> bytes:
        return b"\0" + len(content).to_bytes(4, "big") + content

    # Field 2 of CreateSessionRequest as no UTF-8, and a field that nobody knows.
    broken = planted.hide("gRPC-web, no UTF-8").encode() + b"\xff"
    unknown = planted.hide("gRPC-web, in an unknown field").encode()
    grpc_web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
    for content in (b"\x12" + bytes([len(broken)]) + broken, b"\xfa\x7f" + bytes([len(unknown)]) + unknown):
        assert 200 == status(web, "POST", f"/{SIGN_IN}", framed(content), grpc_web)


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture(scope="module")
def audit(mesh: Mesh) -> Iterator[Database]:
    database = Database((mesh.secrets / "database-audit.url").read_text().strip(), pool_size=1, name="test")
    yield database
    database.close()


@pytest.fixture(scope="module")
def planted(edge: Edge, shop: Shop, audit: Database) -> Planted:
    """Everything is planted, and everything that follows from it has happened and been written."""
    made = Planted()
    callers = [Caller(wire, made).go() for wire in edge.wires]
    in_wrong_places(edge, made)
    trace = traceparent()
    made.traces.append(trace.split("-")[1])
    shop.place(callers[0], {shop.product(): 1}, traceparent=trace)
    for caller in callers:
        eventually(lambda caller=caller: audited(audit, caller.name))  # type: ignore[misc]
    eventually(lambda: shop.fetch("mail", f"/messages?to={quote(callers[0].email)}")["messages"])

    def logged() -> bool:
        text = b"".join(read_all(path) for path in shop.mesh.logs.glob("gateway-*.log"))
        return all(one.encode() in text for one in made.traces)

    # The gateways write their logs every ten seconds, and their spans as often as they have some.
    eventually(logged)
    for one in made.traces:
        eventually(lambda one=one: stored(shop, one))  # type: ignore[misc]
    return made


def stored(shop: Shop, trace_id: str) -> bool:
    """Whether the trace store knows a trace."""
    try:
        return bool(shop.fetch("traces", f"/api/traces/{trace_id}")["spans"])
    except OSError:
        return False


def audited(audit: Database, user: str) -> list[UserCreated]:
    """What the audit log keeps of a user's creation."""
    query = (
        sa.select(log.audit_log.c.envelope)
        .where(log.audit_log.c.type == UserCreated.DESCRIPTOR.full_name)
        .where(sa.func.position(sa.literal(user.encode()).op("IN")(log.audit_log.c.envelope)) > 0)
    )
    rows = audit.read(lambda tx: tx.execute(query).all(), deadline=Deadline.after(60.0))
    found = []
    for row in rows:
        created = UserCreated()
        assert Envelope.FromString(row.envelope).payload.Unpack(created)
        if created.user == user:
            found.append(created)
    return found


def data(mesh: Mesh) -> Path:
    """Where the parts of the mesh keep their data, one directory for each."""
    return mesh.secrets.parent / "data"


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is there now."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def read_all(path: Path) -> bytes:
    """A file's bytes; nothing of one that has gone meanwhile, as its process may have."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def mesh_secrets(folder: Path) -> dict[str, str]:
    """Passwords and keys of the mesh itself, also as they stand in URLs."""
    found = [path for path in folder.iterdir() if path.suffix in {".password", ".key", ".email"}]
    assert {"database-orders.password", "cache.key", "operator.password"} <= {path.name for path in found}
    secrets = {path.name: path.read_text().strip() for path in found}
    return {**secrets, **{f"{name} in a URL": quote(value, safe="") for name, value in secrets.items()}}


def test_no_refusal_tells_what_anybody_had_sent(planted: Planted) -> None:
    assert {UNAUTHENTICATED, EXISTS, INVALID} == {answer.code for _, answer in planted.refusals}
    told = [
        (call, found)
        for call, answer in planted.refusals
        for found in planted.found(f"{answer.message}{answer.details}{answer.headers}")
    ]

    assert [] == told


def test_no_log_of_any_part_names_a_canary_or_a_secret_of_the_mesh(planted: Planted, mesh: Mesh) -> None:
    own = mesh_secrets(mesh.secrets)
    leaks = [
        (path.name, found)
        for path in files(mesh.logs)
        for text in [read_all(path)]
        for found in [*planted.found(text), *(name for name, value in own.items() if value.encode() in text)]
    ]

    assert [] == leaks


def test_a_secret_is_in_no_file_and_a_person_only_where_that_is_needed(planted: Planted, mesh: Mesh) -> None:
    leaks = [
        (part.name, str(path.relative_to(part)), found)
        for part in sorted(data(mesh).iterdir())
        for path in files(part)
        for found in planted.found(read_all(path), personal=part.name not in KEEPERS)
    ]

    assert [] == leaks


def test_the_search_finds_what_is_there(planted: Planted, mesh: Mesh) -> None:
    kept = {
        part: {found for path in files(data(mesh) / part) for found in planted.found(read_all(path))}
        for part in KEEPERS
    }

    assert {f"{wire} {what}" for wire in WIRES for what in ("address", "name")} <= kept["postgres-1"]
    assert "grpc address" in kept["mail"]


def test_the_audit_log_knows_that_a_user_was_created_and_not_who_it_is(planted: Planted, audit: Database) -> None:
    for name in planted.users:
        assert [UserCreated(user=name, display_name=MARK, email=MARK)] == audited(audit, name)


def test_no_metric_of_any_process_names_a_canary(planted: Planted, shop: Shop) -> None:
    targets = shop.fetch("metrics", "/api/v1/targets?state=active")["data"]["activeTargets"]
    pages = {target["scrapeUrl"]: read(target["scrapeUrl"]) for target in targets}

    assert len(pages) > 10
    assert [] == [(url, found) for url, page in pages.items() for found in planted.found(page)]


def test_no_trace_page_names_a_canary_or_a_secret_of_the_mesh(planted: Planted, shop: Shop) -> None:
    own = mesh_secrets(shop.mesh.secrets)
    traces = [json.dumps(shop.fetch("traces", f"/api/traces/{one}")) for one in planted.traces]

    assert [] == [found for text in traces for found in planted.found(text)]
    assert [] == [name for text in traces for name, value in own.items() if value in text]


def test_no_process_was_given_a_secret_by_argument_or_environment(planted: Planted, mesh: Mesh) -> None:
    own = mesh_secrets(mesh.secrets)
    started = [process.pid for process in mesh.status().processes if process.pid]
    pids = {pid for leader in started for pid in (leader, *procfs.session_members(leader))}
    given = {
        (pid, name): read_all(Path(f"/proc/{pid}/{name}")) for pid in sorted(pids) for name in ("cmdline", "environ")
    }

    assert len(started) > 10
    assert any(b"WEFT_SECRETS" in content for content in given.values())
    assert [] == [(where, found) for where, content in given.items() for found in planted.found(content)]
    assert [] == [
        (where, name) for where, content in given.items() for name, value in own.items() if value.encode() in content
    ]


def test_no_process_may_leave_its_memory_in_a_core_file(mesh: Mesh) -> None:
    limits = {
        process.name: next(
            line.split()[4] for line in Path(f"/proc/{process.pid}/limits").read_text().splitlines() if "core" in line
        )
        for process in mesh.status().processes
        if process.pid
    }

    assert limits
    assert {} == {name: limit for name, limit in limits.items() if limit not in {"0", "1"}}
