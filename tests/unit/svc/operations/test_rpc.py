"""Every method against sources that are real servers: what is asked of whom, and what a caller is told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from svc.chassis.clock import SystemClock
from svc.chassis.errors import AppError, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from svc.chassis.pages import PageTokens
from svc.operations import alerts, mesh, views, wiring
from svc.operations.contracts import Contracts
from svc.operations.mesh import Known
from svc.operations.rpc import (
    AlertHandler,
    ContractHandler,
    MailHandler,
    MeshHandler,
    Page,
    QueueHandler,
    TraceHandler,
)
from svc.operations.sources import ASK_S, Http, Supervisor
from svc.operations.watching import Poll, Watching
from tests.fakes.operations import Supervised, Told, make_call, process, status
from weft.operations.v1 import alerts_pb2, contracts_pb2, mails_pb2, mesh_pb2, queues_pb2, traces_pb2

TRACE = "ab" * 16
LETTER = {
    "queue": "weft.email",
    "id": "0b54c8e1",
    "type": "weft.orders.v1.OrderPlaced",
    "reason": "failed 5 times",
    "deliveries": 5,
    "parked": "2026-06-01T12:00:00Z",
    "bytes": 120,
}
SUMMARY = {
    "trace_id": TRACE,
    "service": "gateway",
    "name": "PlaceOrder",
    "start": "2026-06-01T12:00:00.000+00:00",
    "start_nanos": 5,
    "duration_ms": 12.5,
    "spans": 3,
    "errors": 1,
}


@dataclass
class World:
    told: Told
    supervised: Supervised
    watching: Watching[mesh_pb2.Mesh]

    @property
    def http(self) -> Http:
        return Http("it", [self.told.address])

    @property
    def mesh(self) -> MeshHandler:
        return MeshHandler(self.watching, Supervisor(self.supervised.path))

    @property
    def queues(self) -> QueueHandler:
        return QueueHandler(self.watching, self.http, pages(), wiring.queues())

    @property
    def traces(self) -> TraceHandler:
        return TraceHandler(self.http, PageTokens(b"k" * 32))


def pages() -> Page:
    return Page(PageTokens(b"k" * 32))


def tells(answer: AppError, *, source: str) -> None:
    assert ("SOURCE_UNAVAILABLE", {"source": source}) == (answer.reason, answer.metadata)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    told, supervised = Told(), Supervised(tmp_path / "s.sock")
    with told.serving(), supervised.serving():
        http, supervisor = Http("it", [told.address]), Supervisor(supervised.path)
        polls = (
            Poll(mesh.SUPERVISOR, lambda: Known(supervisor.ask("status")["status"]), 0.05),
            Poll(mesh.ALERTS, lambda: alerts.parse(http.get("/api/v1/alerts")), 0.05),
            Poll(mesh.LETTERS, lambda: views.depths(http.get("/depths")), 0.05),
        )
        watching = Watching(polls, mesh.compose, clock=SystemClock())
        watching.start()
        yield World(told, supervised, watching)
        watching.stop()


def test_a_watcher_sees_a_process_die_and_come_back(world: World) -> None:
    world.supervised.answers["status"] = {"status": status(process("orders-1"))}
    stream = world.mesh.WatchMesh(mesh_pb2.WatchMeshRequest(name=mesh.NAME), make_call())
    states = []
    for state, pid in (("ready", 100), ("down", None), ("ready", 101)):
        world.supervised.answers["status"] = {"status": status(process("orders-1", state=state, pid=pid))}
        found = next(one for one in stream if [each.pid for each in one.mesh.processes] == [pid or 0])
        states.append(found.mesh.processes[0].state)

    assert [mesh_pb2.Process.STATE_READY, mesh_pb2.Process.STATE_DOWN, mesh_pb2.Process.STATE_READY] == states


def test_a_glance_has_what_is_there_and_says_what_is_not(world: World) -> None:
    world.supervised.answers["status"] = {"status": status(process("orders-1"))}

    seen = world.mesh.GetMesh(mesh_pb2.GetMeshRequest(name=mesh.NAME), make_call())

    assert ["processes/orders-1"] == [each.name for each in seen.processes]
    away = [source.kind for source in seen.sources if source.state == mesh_pb2.Source.STATE_UNAVAILABLE]
    assert [mesh_pb2.Source.KIND_ALERTS, mesh_pb2.Source.KIND_DEAD_LETTERS] == away


@pytest.mark.parametrize(
    ("method", "request_", "asked"),
    [
        (
            "RestartProcess",
            mesh_pb2.RestartProcessRequest(name="processes/orders-1"),
            {"op": "restart", "name": "orders-1", "wait": False},
        ),
        (
            "KillProcess",
            mesh_pb2.KillProcessRequest(name="processes/orders-1"),
            {"op": "kill", "name": "orders-1", "signal": 9},
        ),
        (
            "ScaleService",
            mesh_pb2.ScaleServiceRequest(name="services/orders", size=3),
            {"op": "scale", "service": "orders", "wait": False, "size": 3},
        ),
        (
            "ScaleService",
            mesh_pb2.ScaleServiceRequest(name="services/orders", bounds=mesh_pb2.SizeBounds(min=2, max=4)),
            {"op": "scale", "service": "orders", "wait": False, "auto": [2, 4]},
        ),
        (
            "ScaleService",
            mesh_pb2.ScaleServiceRequest(name="services/orders", bounds=mesh_pb2.SizeBounds()),
            {"op": "scale", "service": "orders", "wait": False, "auto": None},
        ),
        (
            "RollService",
            mesh_pb2.RollServiceRequest(name="services/orders"),
            {"op": "roll", "service": "orders"},
        ),
    ],
)
def test_what_an_operator_wants_is_asked_of_the_supervisor(
    world: World, method: str, request_: Any, asked: dict[str, Any]
) -> None:
    world.supervised.answers = {"status": {"status": status(process("orders-1"))}, asked["op"]: {}}

    answer = getattr(world.mesh, method)(request_, make_call())

    assert request_.name == answer.name
    assert [asked] == [one for one in world.supervised.asked if one["op"] != "status"]


def test_a_busy_supervisor_has_the_time_that_the_operator_has(world: World) -> None:
    given: list[float] = []

    class Busy(Supervisor):
        def ask(
            self, op: str, words: Mapping[str, object] | None = None, *, timeout_s: float = ASK_S
        ) -> Mapping[str, Any]:
            given.append(timeout_s)
            return super().ask(op, words, timeout_s=timeout_s)

    world.supervised.answers = {"status": {"status": status(process("orders-1"))}, "kill": {}}
    handler = MeshHandler(world.watching, Busy(world.supervised.path))
    handler.KillProcess(mesh_pb2.KillProcessRequest(name="processes/orders-1"), make_call(timeout_s=60.0))

    assert 3 == len(given)
    assert ASK_S < min(given) <= max(given) < 60.0


def test_an_operator_is_told_what_is_not_there_what_is_refused_and_who_is_away(world: World) -> None:
    world.supervised.answers = {"status": {"status": status(process("orders-1"))}, "scale": {"error": "give 0 to 32"}}
    with pytest.raises(NotFound) as unknown:
        world.mesh.KillProcess(mesh_pb2.KillProcessRequest(name="processes/orders-9"), make_call())
    with pytest.raises(NotFound) as nothing:
        world.mesh.RollService(mesh_pb2.RollServiceRequest(name="services/clients"), make_call())
    with pytest.raises(FailedPrecondition) as refused:
        world.mesh.ScaleService(mesh_pb2.ScaleServiceRequest(name="services/orders", size=60), make_call())
    with pytest.raises(Unavailable) as away:
        MeshHandler(world.watching, Supervisor(None)).KillProcess(
            mesh_pb2.KillProcessRequest(name="processes/orders-1"), make_call()
        )

    assert ["PROCESS_NOT_FOUND", "SERVICE_NOT_FOUND"] == [unknown.value.reason, nothing.value.reason]
    assert ("SUPERVISOR_REFUSED", [("SUPERVISOR", "scale", "give 0 to 32")]) == (
        refused.value.reason,
        list(refused.value.violations),
    )
    tells(away.value, source="supervisor")
    assert [] == [one for one in world.supervised.asked if one["op"] == "kill"]


def test_alerts_are_listed_by_pages_and_missed_by_name(world: World) -> None:
    handler = AlertHandler(world.watching, pages())
    with pytest.raises(Unavailable) as away:
        handler.ListAlerts(alerts_pb2.ListAlertsRequest(), make_call())
    tells(away.value, source="mesh")

    firing = [{"labels": {"alertname": f"A{n}"}, "annotations": {}, "state": "firing"} for n in range(5)]
    world.told.answers["/api/v1/alerts"] = {"data": {"alerts": firing}}
    found, token = [], ""
    while len(found) < 5:
        try:
            page = handler.ListAlerts(alerts_pb2.ListAlertsRequest(page_size=2, page_token=token), make_call())
        except Unavailable:
            continue  # it has not been asked again yet
        found += [each.alert for each in page.alerts]
        token = page.next_page_token
    assert ["A0", "A1", "A2", "A3", "A4"] == found
    assert "" == token
    with pytest.raises(InvalidArgument):
        handler.ListAlerts(alerts_pb2.ListAlertsRequest(page_token="x"), make_call())


def test_queues_are_those_of_the_broker(world: World) -> None:
    world.told.answers["/depths"] = {"depths": {"weft.email.dead": 2}}

    answer = world.queues.ListQueues(queues_pb2.ListQueuesRequest(), make_call())

    assert [("queues/email", 2)] == [(queue.name, queue.dead_letters) for queue in answer.queues]


def test_dead_letters_are_looked_at_one_by_one_and_sent_back(world: World) -> None:
    event = {"type": "weft.orders.v1.OrderPlaced", "payload": {"email": "[redacted]"}}
    whole = LETTER | {"traceparent": f"00-{TRACE}-{'1' * 16}-01", "sha256": "ff", "event": event, "copies": 1}
    world.told.answers = {
        "/letters": {"letters": [LETTER], "chosen": 7},
        "/letter": {"letters": [whole]},
        "/replay": {"replayed": {"weft.email": ["0b54c8e1"]}, "missing": ["x"]},
    }
    name = "queues/email/deadLetters/0b54c8e1"

    listed = world.queues.ListDeadLetters(
        queues_pb2.ListDeadLettersRequest(parent="queues/-", reason="times", page_size=5000), make_call()
    )
    shown = world.queues.GetDeadLetter(queues_pb2.GetDeadLetterRequest(name=name), make_call())
    sent = world.queues.ReplayDeadLetters(
        queues_pb2.ReplayDeadLettersRequest(parent="queues/email", letter_ids=["0b54c8e1", "x"]), make_call()
    )

    assert ([name], 7) == ([each.name for each in listed.dead_letters], listed.total_size)
    assert ("/letters", {"reason": "times", "limit": "1000"}) in world.told.asked
    assert ("/letter", {"queue": "email", "id": "0b54c8e1"}) in world.told.asked
    assert (f"traces/{TRACE}", "ff", 1) == (shown.trace, shown.sha256, shown.copies)
    assert "[redacted]" in shown.event_json
    assert ([name], ["x"]) == (list(sent.replayed), list(sent.missing_letter_ids))
    assert b'{"queue": "email", "ids": ["0b54c8e1", "x"], "reason": "", "type": ""}' in world.told.sent


def test_a_queue_or_letter_that_is_not_there_is_told_from_a_door_that_is_shut(world: World) -> None:
    get = queues_pb2.GetDeadLetterRequest(name="queues/email/deadLetters/x")
    with pytest.raises(NotFound) as queue:
        world.queues.ListDeadLetters(queues_pb2.ListDeadLettersRequest(parent="queues/nothing"), make_call())
    with pytest.raises(Unavailable) as away:
        world.queues.GetDeadLetter(get, make_call())
    world.told.answers["/letter"] = {"letters": []}
    with pytest.raises(NotFound) as letter:
        world.queues.GetDeadLetter(get, make_call())

    assert ["QUEUE_NOT_FOUND", "DEAD_LETTER_NOT_FOUND"] == [queue.value.reason, letter.value.reason]
    tells(away.value, source="dead letters")


def test_traces_are_searched_and_a_token_goes_on_in_the_same_list_alone(world: World) -> None:
    world.told.answers["/api/traces"] = {"traces": [SUMMARY], "next": f"5-{TRACE}"}
    request = traces_pb2.ListTracesRequest(operation="Place", errors_only=True, min_duration_ms=10, page_size=1)
    request.start_time.FromSeconds(7)

    first = world.traces.ListTraces(request, make_call())
    request.page_token = first.next_page_token
    world.traces.ListTraces(request, make_call())

    assert [(f"traces/{TRACE}", 0.0125, 1)] == [(one.name, one.duration_seconds, one.errors) for one in first.traces]
    wanted = {"name": "Place", "error": "true", "min_ms": "10", "since": "7000000000", "limit": "1"}
    asked = [query for path, query in world.told.asked if path == "/api/traces"]
    assert [wanted, wanted | {"before": f"5-{TRACE}"}] == asked
    request.operation = "Cancel"
    with pytest.raises(InvalidArgument):
        world.traces.ListTraces(request, make_call())
    request = traces_pb2.ListTracesRequest()
    request.end_time.seconds = 1 << 60
    with pytest.raises(InvalidArgument) as moment:
        world.traces.ListTraces(request, make_call())
    assert "end_time" == moment.value.violations[0][0]


def span(span_id: str, *children: dict[str, Any]) -> dict[str, Any]:
    return {
        "span_id": span_id,
        "parent_span_id": "",
        "service": "orders",
        "name": "x",
        "kind": "server",
        "start": "2026-06-01T12:00:00.000+00:00",
        "offset_ms": 1.0,
        "duration_ms": 2.0,
        "status": {"code": "error", "message": "late"},
        "attributes": {"code": 5, "word": "w", "list": [1]},
        "events": [{"name": "e", "time": "2026-06-01T12:00:00+00:00", "attributes": {}}],
        "links": [{"trace_id": "cd" * 16, "span_id": "1"}],
        "children": list(children),
    }


def test_a_trace_is_flat_in_the_order_of_its_waterfall(world: World) -> None:
    tree = {
        "trace_id": TRACE,
        "start": SUMMARY["start"],
        "duration_ms": 9.0,
        "services": ["orders"],
        "spans": [span("a", span("b", span("c")), span("d")), span("e")],
    }
    world.told.answers[f"/api/traces/{TRACE}"] = tree

    found = world.traces.GetTrace(traces_pb2.GetTraceRequest(name=f"traces/{TRACE}"), make_call())

    assert [("a", 0), ("b", 1), ("c", 2), ("d", 1), ("e", 0)] == [(one.span_id, one.depth) for one in found.spans]
    assert {"code": "5", "word": "w", "list": "[1]"} == dict(found.spans[0].attributes)
    assert (traces_pb2.Span.STATUS_ERROR, "late", ["traces/" + "cd" * 16]) == (
        found.spans[0].status,
        found.spans[0].status_message,
        list(found.spans[0].links),
    )


def test_a_trace_that_was_not_kept_is_told_from_a_store_that_is_away_or_odd(world: World) -> None:
    request = traces_pb2.GetTraceRequest(name=f"traces/{TRACE}")
    with pytest.raises(NotFound) as unknown:
        world.traces.GetTrace(request, make_call())
    world.told.answers[f"/api/traces/{TRACE}"] = {"odd": 1}
    with pytest.raises(Unavailable) as odd:
        world.traces.GetTrace(request, make_call())
    with pytest.raises(Unavailable) as away:
        TraceHandler(Http("traces", []), PageTokens(b"k" * 32)).GetTrace(request, make_call())

    assert "TRACE_NOT_FOUND" == unknown.value.reason
    tells(odd.value, source="traces")
    tells(away.value, source="traces")
    assert "Traces: nobody has said where it is." == away.value.message


def test_logs_of_a_span_are_those_of_the_store(world: World) -> None:
    entry = {
        "time": "2026-06-01T12:00:00Z",
        "process": "orders-1",
        "level": "error",
        "message": "late",
        "span_id": "1" * 16,
        "attributes": {"n": 1},
    }
    world.told.answers[f"/api/traces/{TRACE}/logs"] = {"entries": [entry], "truncated": True}

    found = world.traces.ListTraceLogs(
        traces_pb2.ListTraceLogsRequest(parent=f"traces/{TRACE}", span_id="1" * 16), make_call()
    )

    assert (True, ["orders-1"], {"n": "1"}) == (
        found.truncated,
        [one.process for one in found.entries],
        dict(found.entries[0].attributes),
    )
    assert [{"span": "1" * 16, "limit": "200"}] == [query for _, query in world.told.asked if "span" in query]


def test_mail_is_listed_and_read(world: World) -> None:
    said = {
        "id": 7,
        "message_id": "<a@b>",
        "kind": "order",
        "from": "shop@example.com",
        "to": ["ann@example.com"],
        "subject": "Yours",
        "received": "2026-06-01T12:00:00+00:00",
    }
    world.told.answers = {
        "/messages": {"messages": [said]},
        "/count": {"messages": 3, "unique": 2, "by_kind": {}},
        "/messages/7": said | {"text": "thanks", "headers": [["To", "ann@example.com"]]},
    }
    handler = MailHandler(world.http)

    listed = handler.ListMails(mails_pb2.ListMailsRequest(), make_call())
    read = handler.GetMail(mails_pb2.GetMailRequest(name="mails/7"), make_call())
    with pytest.raises(NotFound) as unknown:
        handler.GetMail(mails_pb2.GetMailRequest(name="mails/8"), make_call())

    assert (["mails/7"], 2, 3) == ([one.name for one in listed.mails], listed.total_size, listed.deliveries)
    assert ("thanks", "To") == (read.text, read.headers[0].header)
    assert "MAIL_NOT_FOUND" == unknown.value.reason


def test_contracts_are_data_that_a_form_can_be_made_of() -> None:
    handler = ContractHandler(Contracts(), pages())

    listed = handler.ListMethods(contracts_pb2.ListMethodsRequest(), make_call())
    name = "methods/weft.orders.v1.OrderService.PlaceOrder"
    place = handler.GetMethod(contracts_pb2.GetMethodRequest(name=name), make_call())
    schema = handler.GetSchema(contracts_pb2.GetSchemaRequest(), make_call())
    with pytest.raises(NotFound) as unknown:
        handler.GetMethod(contracts_pb2.GetMethodRequest(name="methods/x.Y"), make_call())

    assert place in listed.methods
    assert ("orders", ["orders.write"], 3) == (
        place.service,
        list(place.policy.scopes),
        place.policy.retry.max_attempts,
    )
    assert [("POST", "/v1/orders", "*")] == [(one.verb, one.template, one.body) for one in place.bindings]
    assert place.comment.startswith("Places an order")
    assert place.location.startswith("weft/orders/v1/orders.proto:")
    assert [] == [one.name for one in listed.methods if not one.sample_request_json]
    files = [file.name for file in FileDescriptorSet.FromString(schema.descriptor_set).file]
    assert {"weft/orders/v1/orders.proto", "buf/validate/validate.proto", "google/api/http.proto"} <= set(files)
    assert "METHOD_NOT_FOUND" == unknown.value.reason
