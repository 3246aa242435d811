"""What traces and metrics say of transactions and look-ups."""

import contextlib

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import REGISTRY

from svc.chassis import telemetry
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.chassis.errors import FailedPrecondition, NotFound, Unavailable
from tests.fakes.postgres_wire import Answer, Drops, Fails, FakePostgres, Rows
from tests.memcached_process import MemcachedProcess
from tests.unit.svc.chassis_data.kept import processes, said


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._Current, "tracer", provider.get_tracer("test"))
    return exporter


def transact(answers: list[Answer], *, name: str, refuse: bool = False) -> None:
    def rule(statement: str, session: int) -> Answer:
        if statement == "SELECT work":
            return answers.pop(0) if answers else Rows([("done",)])
        return None

    def work(tx: Transaction) -> None:
        tx.exec_driver_sql("SELECT work")
        if refuse:
            raise FailedPrecondition

    with FakePostgres(rule) as server, contextlib.closing(Database(server.url, pool_size=1, name=name)) as database:
        database.serializable(work, deadline=Deadline.after(5))


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0.0


def test_a_transaction_is_one_span_that_says_how_often_it_ran(spans: InMemorySpanExporter) -> None:
    with telemetry.span("call"):
        transact([Fails("40001"), Fails("40P01")], name="traced")

    transaction, call = spans.get_finished_spans()
    assert "db.transaction" == transaction.name
    assert {"db.system": "postgresql", "db.name": "traced", "attempts": 3} == transaction.attributes
    assert call.context is not None
    assert transaction.parent is not None
    assert call.context.span_id == transaction.parent.span_id
    assert 2 == count("weft_db_retries_total", database="traced")
    assert 1 == count("weft_db_transactions_total", database="traced", outcome="committed")


def test_a_poll_outside_of_any_call_is_no_trace(spans: InMemorySpanExporter) -> None:
    transact([], name="polled")

    assert () == spans.get_finished_spans()


def test_a_refusal_is_an_answer_and_a_lost_database_a_failure(spans: InMemorySpanExporter) -> None:
    with telemetry.span("call"), contextlib.suppress(FailedPrecondition):
        transact([], name="refused", refuse=True)
    with telemetry.span("call"), contextlib.suppress(Unavailable):
        transact([Drops()], name="lost")

    codes = [span.status.status_code for span in spans.get_finished_spans() if span.name == "db.transaction"]
    assert [StatusCode.UNSET, StatusCode.ERROR] == codes
    assert 1 == count("weft_db_transactions_total", database="refused", outcome="refused")
    assert 1 == count("weft_db_transactions_total", database="lost", outcome="unavailable")


def test_a_look_up_says_hit_or_miss_and_never_the_key(spans: InMemorySpanExporter) -> None:
    def missing() -> str:
        raise NotFound

    with MemcachedProcess() as server, processes() as opened:
        process = opened(server.address, kept=said("weft.test.v1.Test.Observed"))
        with contextlib.suppress(NotFound):
            process.get("secret key", missing)
        process.get("22423", lambda: "mug")
        process.get("22423", lambda: "mug")
        with server.client() as client:
            client.set(process.slot("22423"), b"foreign", noreply=False)
        process.get("22423", lambda: "mug")
        server.kill()
        process.get("22423", lambda: "mug")

    finished = spans.get_finished_spans()
    assert {"cache.get"} == {span.name for span in finished}
    assert {StatusCode.UNSET} == {span.status.status_code for span in finished}
    assert "secret" not in str([span.attributes for span in finished])
    assert ["miss", "miss", "hit", "foreign", "error"] == [(span.attributes or {})["cache.result"] for span in finished]
    entry = "weft.test.v1.Test.Observed"
    assert 1 == count("weft_cache_requests_total", entry=entry, result="hit")
    assert 2 == count("weft_cache_fills_total", entry=entry, result="stored")
