"""What the operations service shows is what happens: processes, sizes, dead letters, traces, mail, the console's page.

Every change is made elsewhere, or asked for through the gateway, and must be seen by one watcher that is there from the
beginning. Nothing is asserted about how fast; `tests/unit/svc/operations` holds what makes it fast.
"""

import contextlib
import http.client
import json
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pika
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.fakes.worker import garbage
from tests.integration.shop import Shop
from tests.waiting import eventually
from weft.operations.v1 import (
    alerts_pb2,
    alerts_pb2_grpc,
    contracts_pb2,
    contracts_pb2_grpc,
    mails_pb2,
    mails_pb2_grpc,
    mesh_pb2,
    mesh_pb2_grpc,
    queues_pb2,
    queues_pb2_grpc,
    traces_pb2,
    traces_pb2_grpc,
)
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import work_queue
from worker.delivery import DeadLetter

#: Processes start on two cores, beside a suite.
STARTED_S = 120.0
NAME = "meshes/local"
ETCD = {"etcd-1", "etcd-2", "etcd-3"}


class Watcher:
    """Watches the mesh as a console does: opens the stream again whenever it ends."""

    def __init__(self, operator: GatewayClient) -> None:
        self._operator = operator
        self._token = operator.sign_in("mesh.read").access_token
        self._stub = mesh_pb2_grpc.MeshServiceStub(operator.channel())
        self._stop = threading.Event()
        self._call: Any = None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.latest = mesh_pb2.Mesh()
        self.opened = 0

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._call is not None:
            self._call.cancel()
        self._thread.join(30)

    def _watch(self) -> None:
        while not self._stop.is_set():
            metadata = [("authorization", f"Bearer {self._token}")]
            self._call = self._stub.WatchMesh(mesh_pb2.WatchMeshRequest(name=NAME), metadata=metadata)
            self.opened += 1
            try:
                for answer in self._call:
                    self.latest = answer.mesh
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAUTHENTICATED and not self._stop.is_set():
                    self._token = self._operator.sign_in("mesh.read").access_token
            self._stop.wait(0.05)

    def sees(self, fits: Callable[[mesh_pb2.Mesh], object], *, deadline_s: float = STARTED_S) -> None:
        eventually(lambda: fits(self.latest), deadline_s=deadline_s)

    def process(self, name: str) -> mesh_pb2.Process:
        return next((each for each in self.latest.processes if each.name == f"processes/{name}"), mesh_pb2.Process())


@pytest.fixture(scope="module")
def watcher(mesh: Mesh, operator: GatewayClient) -> Iterator[Watcher]:
    with Watcher(operator) as made:
        made.sees(lambda seen: len(seen.processes) > 20)
        yield made


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


def test_everybody_who_tells_about_the_mesh_answers(watcher: Watcher) -> None:
    def well(seen: mesh_pb2.Mesh) -> bool:
        return {mesh_pb2.Source.STATE_OK} == {source.state for source in seen.sources} and len(seen.sources) == 7

    watcher.sees(well)


def test_the_processes_are_those_of_the_supervisor_with_version_and_load(mesh: Mesh, watcher: Watcher) -> None:
    known = {f"processes/{each.name}": each.service for each in mesh.status().processes}

    watcher.sees(lambda seen: known == {each.name: each.service for each in seen.processes})
    watcher.sees(lambda _: watcher.process("orders-1").version and watcher.process("orders-1").HasField("cpu_cores"))
    watcher.sees(
        lambda seen: {each.process for each in seen.registry_members if each.up} == {"etcd-1", "etcd-2", "etcd-3"}
    )
    watcher.sees(lambda seen: "gateway-1" in {each.node for each in seen.proxies})


def test_calls_are_seen_as_edges_from_clients_to_the_last_service(shop: Shop, watcher: Watcher) -> None:
    customer, product_id = shop.customer(), shop.product(stock=100_000)

    def flows(seen: mesh_pb2.Mesh) -> bool:
        shop.place(customer, {product_id: 1})
        rates = {(edge.source, edge.target): edge.rate for edge in seen.edges}
        ways = [("clients", "gateway"), ("gateway", "orders"), ("orders", "catalog"), ("orders", "postgres")]
        return all(rates.get(way, 0.0) > 0 for way in (*ways, ("relay", "rabbitmq"), ("rabbitmq", "email")))

    watcher.sees(flows)


def test_a_killed_process_is_seen_to_go_and_to_come_back(mesh: Mesh, watcher: Watcher) -> None:
    mesh.wait_ready()
    watcher.sees(lambda _: watcher.process("email-1").state == mesh_pb2.Process.STATE_READY)
    before = watcher.process("email-1")

    mesh.kill("email-1", signal.SIGKILL)

    watcher.sees(lambda _: watcher.process("email-1").restarts > before.restarts)
    watcher.sees(lambda _: watcher.process("email-1").state == mesh_pb2.Process.STATE_READY)
    assert before.pid != watcher.process("email-1").pid


def test_an_operator_restarts_kills_sizes_and_rolls(mesh: Mesh, operator: GatewayClient, watcher: Watcher) -> None:
    mesh.wait_ready()
    stub = mesh_pb2_grpc.MeshServiceStub(operator.channel())

    def ready(service: str) -> set[int]:
        return {
            each.pid
            for each in watcher.latest.processes
            if each.service == service and each.state == mesh_pb2.Process.STATE_READY
        }

    def quiet() -> bool:
        service = next(each for each in watcher.latest.services if each.name == "services/audit")
        return not service.rolling and service.processes == service.ready_processes == 1

    watcher.sees(lambda _: quiet())
    steps: list[tuple[Any, Any]] = [
        (stub.RestartProcess, mesh_pb2.RestartProcessRequest(name="processes/audit-1")),
        (stub.KillProcess, mesh_pb2.KillProcessRequest(name="processes/audit-1")),
        (stub.RollService, mesh_pb2.RollServiceRequest(name="services/audit")),
    ]
    for method, request in steps:
        before = ready("audit")
        operator.call(method, request)
        watcher.sees(lambda _, before=before: ready("audit") and not ready("audit") & before and quiet())
    try:
        operator.call(stub.ScaleService, mesh_pb2.ScaleServiceRequest(name="services/email", size=2))
        watcher.sees(lambda _: len(ready("email")) == 2)
    finally:
        operator.call(stub.ScaleService, mesh_pb2.ScaleServiceRequest(name="services/email", size=1))
    watcher.sees(lambda _: len(ready("email")) == 1)
    mesh.wait_ready()


def test_a_watcher_is_there_again_when_the_one_it_asks_is_replaced(
    mesh: Mesh, operator: GatewayClient, watcher: Watcher
) -> None:
    mesh.wait_ready()
    opened, before = watcher.opened, watcher.process("operations-1").pid
    stub = mesh_pb2_grpc.MeshServiceStub(operator.channel())

    operator.call(stub.RestartProcess, mesh_pb2.RestartProcessRequest(name="processes/operations-1"))

    watcher.sees(lambda _: watcher.process("operations-1").pid not in (0, before) and watcher.opened > opened)
    mesh.wait_ready()


@pytest.fixture
def parked(mesh: Mesh) -> Iterator[str]:
    """The id of an event that nobody can handle, among the dead letters of the e-mail worker."""
    url = (mesh.secrets / "amqp.url").read_text().strip()
    letter = garbage()
    publisher = Publisher(url, name="test-operations")
    publisher.start()
    assert publisher.ready(60)
    unlike = str(uuid.uuid4())
    Ladder(publisher, work_queue("email")).move(replace(letter, message_id=unlike), DeadLetter("planted"))
    yield unlike
    publisher.stop(10)
    _take_away(url, unlike)


def _take_away(url: str, letter_id: str) -> None:
    """Take one letter out, wherever a replay has brought it by now."""

    def taken() -> bool:
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
            channel = connection.channel()
            for method, properties, _ in channel.consume("weft.email.dead", inactivity_timeout=2.0):
                if method is None:
                    return False
                if properties.message_id == letter_id:
                    channel.basic_ack(method.delivery_tag)
                    return True
        return False

    eventually(taken)


def test_a_dead_letter_is_seen_read_and_sent_back(operator: GatewayClient, watcher: Watcher, parked: str) -> None:
    stub = queues_pb2_grpc.QueueServiceStub(operator.channel())
    name = f"queues/email/deadLetters/{parked}"

    def counted(seen: mesh_pb2.Mesh) -> bool:
        return any(queue.name == "queues/email" and queue.dead_letters > 0 for queue in seen.queues)

    def reason() -> str:
        listed = operator.call(
            stub.ListDeadLetters, queues_pb2.ListDeadLettersRequest(parent="queues/-", page_size=1000)
        )
        return next((each.reason for each in listed.dead_letters if each.name == name), "")

    watcher.sees(counted)
    eventually(lambda: reason() == "planted")
    shown = operator.call(stub.GetDeadLetter, queues_pb2.GetDeadLetterRequest(name=name))
    assert ("", True) == (shown.event_json, bool(shown.unreadable_reason))

    sent = operator.call(
        stub.ReplayDeadLetters, queues_pb2.ReplayDeadLettersRequest(parent="queues/email", letter_ids=[parked])
    )

    assert [name] == list(sent.replayed)
    # Nobody can handle it, so its worker puts it back, with a reason of its own.
    eventually(lambda: reason() not in ("", "planted"))


def test_a_trace_is_found_with_its_spans_and_what_was_logged(operator: GatewayClient, shop: Shop) -> None:
    stub = traces_pb2_grpc.TraceServiceStub(operator.channel())
    trace_id = uuid.uuid4().hex
    shop.place(shop.customer(), {shop.product(): 1}, traceparent=f"00-{trace_id}-{uuid.uuid4().hex[:16]}-01")
    name = f"traces/{trace_id}"

    def whole() -> bool:
        try:
            found = operator.call(stub.GetTrace, traces_pb2.GetTraceRequest(name=name))
        except grpc.RpcError:
            return False  # not all of it is kept yet
        return {"gateway", "orders", "catalog"} <= set(found.services)

    def logged() -> bool:
        found = operator.call(stub.ListTraceLogs, traces_pb2.ListTraceLogsRequest(parent=name))
        return any(entry.process.startswith("gateway-") for entry in found.entries)

    eventually(whole)
    eventually(logged)
    listed = operator.call(stub.ListTraces, traces_pb2.ListTracesRequest(service="orders", page_size=1000))
    assert name in {trace.name for trace in listed.traces}


def test_mail_alerts_and_contracts_are_there_for_an_operator(operator: GatewayClient, shop: Shop) -> None:
    customer = shop.customer()
    shop.place(customer, {shop.product(): 1})
    mails = mails_pb2_grpc.MailServiceStub(operator.channel())

    def mine() -> list[str]:
        listed = operator.call(mails.ListMails, mails_pb2.ListMailsRequest(page_size=500))
        return [mail.name for mail in listed.mails if customer.email in mail.recipients]

    eventually(mine)
    assert operator.call(mails.GetMail, mails_pb2.GetMailRequest(name=mine()[0])).text
    alerts = alerts_pb2_grpc.AlertServiceStub(operator.channel())
    eventually(lambda: operator.call(alerts.ListAlerts, alerts_pb2.ListAlertsRequest()) is not None)
    contracts = contracts_pb2_grpc.ContractServiceStub(operator.channel())
    methods = operator.call(contracts.ListMethods, contracts_pb2.ListMethodsRequest(page_size=1000)).methods
    schema = operator.call(contracts.GetSchema, contracts_pb2.GetSchemaRequest(name="schemas/current"))
    known = {
        f"{file.package}.{service.name}"
        for file in FileDescriptorSet.FromString(schema.descriptor_set).file
        for service in file.service
    }
    assert {method.contract for method in methods} <= known


def test_looking_needs_one_scope_and_changing_another(operator: GatewayClient) -> None:
    stub = mesh_pb2_grpc.MeshServiceStub(operator.channel())
    reader = operator.sign_in("mesh.read").access_token
    shopper = operator.sign_in("orders.read").access_token

    def code(method: Any, request: Any, token: str) -> grpc.StatusCode:
        try:
            method(request, metadata=[("authorization", f"Bearer {token}")], timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    get, restart = mesh_pb2.GetMeshRequest(name=NAME), mesh_pb2.RestartProcessRequest(name="processes/orders-1")
    assert grpc.StatusCode.OK is code(stub.GetMesh, get, reader)
    assert grpc.StatusCode.PERMISSION_DENIED is code(stub.GetMesh, get, shopper)
    assert grpc.StatusCode.PERMISSION_DENIED is code(stub.RestartProcess, restart, reader)


def page(mesh: Mesh, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(mesh.gateway, timeout=20)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def test_a_browser_gets_a_page_and_everybody_else_what_they_got_before(mesh: Mesh) -> None:
    eventually(lambda: page(mesh, "/", accept="text/html")[0] == 200)
    _, headers, body = page(mesh, "/", accept="text/html")
    status, _, welcome = page(mesh, "/")
    unknown, _, refusal = page(mesh, "/nothing", accept="text/html")

    assert b"<html" in body
    assert ("nosniff", True) == (
        headers["x-content-type-options"],
        "frame-ancestors 'none'" in headers["content-security-policy"],
    )
    assert (200, True) == (status, welcome.startswith(b"Weft gateway"))
    assert (404, 12) == (unknown, json.loads(refusal)["code"])
