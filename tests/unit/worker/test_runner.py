"""The consumer loop: what becomes of a batch, whatever its handler, its ladder and its queue do."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from svc.chassis import metrics, telemetry
from tests.fakes.worker import (
    TRACEPARENT,
    FakeHandler,
    FakeLadder,
    FakeSource,
    deliveries,
    delivery,
    envelope,
    event,
    garbage,
    order_placed,
    user_created,
)
from tests.waiting import eventually
from worker import runner
from worker.delivery import DeadLetter, Delivery, Retry
from worker.errors import Outage, Permanent, Transient
from worker.runner import Runner

QUEUE = "weft.test"


class Scene:
    def __init__(self) -> None:
        self.source, self.ladder, self.handler = FakeSource(), FakeLadder(), FakeHandler()
        self.runner = Runner(self.source, self.ladder, self.handler, queue=QUEUE, batch_max=10)


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry._Current, "tracer", provider.get_tracer("test"))
    yield exporter
    provider.shutdown()


def handled(outcome: str, *, event_type: str = "weft.orders.v1.OrderPlaced") -> float:
    return metrics.EVENTS_HANDLED.labels(QUEUE, event_type, outcome)._value.get()


def test_a_batch_is_handled_as_a_whole_and_acknowledged_once(scene: Scene) -> None:
    batch = deliveries(order_placed(), order_placed(), order_placed())
    before = handled("ack")

    scene.runner.settle(batch)

    assert [[one.message_id for one in batch]] == scene.handler.batches
    assert [3] == scene.source.acknowledged
    assert 3 == handled("ack") - before


def test_garbage_is_a_dead_letter_at_its_first_delivery_and_the_rest_is_handled(scene: Scene) -> None:
    good = delivery(order_placed(), tag=2)

    scene.runner.settle([garbage(tag=1), good])

    assert [(1, DeadLetter("body is not an envelope"))] == scene.ladder.moved
    assert [[good.message_id]] == scene.handler.batches
    assert [2] == scene.source.acknowledged
    assert 1 <= handled("deadletter", event_type="unknown")


def test_garbage_alone_never_reaches_the_handler(scene: Scene) -> None:
    scene.runner.settle([garbage()])

    assert ([], [1]) == (scene.handler.batches, scene.source.acknowledged)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Transient("not yet"), Retry(1.0)),
        (Permanent("never"), DeadLetter("never")),
        (ZeroDivisionError(), Retry(1.0)),
    ],
)
def test_one_event_that_fails_costs_its_neighbours_nothing(scene: Scene, error: Exception, outcome: object) -> None:
    batch = deliveries(order_placed(), order_placed(), order_placed())
    scene.handler.errors = {str(batch[1].message_id): error}

    scene.runner.settle(batch)

    ids = [one.message_id for one in batch]
    assert [ids, [ids[0]], [ids[1]], [ids[2]]] == scene.handler.batches
    assert [(2, outcome)] == scene.ladder.moved
    assert [3] == scene.source.acknowledged


def test_an_outage_is_waited_out_and_counts_no_attempt(scene: Scene) -> None:
    batch = deliveries(order_placed(), order_placed())
    scene.handler.outages = 2

    scene.runner.settle(batch)

    assert 3 == len(scene.handler.batches)
    assert ([], [2]) == (scene.ladder.moved, scene.source.acknowledged)


def test_a_copy_that_the_broker_did_not_confirm_is_sent_again_before_the_acknowledgement(scene: Scene) -> None:
    scene.ladder.outages = 2

    scene.runner.settle([garbage(tag=1), delivery(order_placed(), tag=2)])

    assert [1] == [tag for tag, _ in scene.ladder.moved]
    assert 1 == len(scene.handler.batches)
    assert [2] == scene.source.acknowledged


def test_a_batch_that_the_queue_took_back_is_left_alone(scene: Scene) -> None:
    scene.handler.outages = 5
    scene.source.lost = True

    scene.runner.settle(deliveries(order_placed()))

    assert (1, []) == (len(scene.handler.batches), scene.source.acknowledged)


def test_a_long_outage_gives_everything_back_once_and_the_queue_is_consumed_again_after_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HOLD_S", 0.0)
    scene.handler.outages = 3

    scene.runner.settle(deliveries(order_placed()))

    assert (4, 1, 1) == (len(scene.handler.batches), scene.source.given_back, scene.source.resumed)
    # The queue hands it out again, and that is what is acknowledged.
    assert [] == scene.source.acknowledged


def test_a_batch_that_does_not_fit_into_its_transaction_is_split_the_second_time(scene: Scene) -> None:
    batch = deliveries(order_placed(), order_placed(), order_placed())
    scene.handler.fits = 1

    scene.runner.settle(batch)

    ids = [one.message_id for one in batch]
    assert [ids, ids, [ids[0]], [ids[1]], [ids[2]]] == scene.handler.batches
    assert ([], [3]) == (scene.ladder.moved, scene.source.acknowledged)


def test_the_handler_hears_of_an_event_that_becomes_a_dead_letter_and_of_no_other(scene: Scene) -> None:
    batch = deliveries(order_placed(), order_placed(), order_placed())
    ids = [str(one.message_id) for one in batch]
    scene.handler.errors = {ids[1]: Permanent("never"), ids[2]: Transient("not yet")}
    scene.ladder.outages = 1

    scene.runner.settle([*batch, garbage(tag=4)])

    assert [ids[1]] == scene.handler.abandoned


@pytest.mark.parametrize("error", [Outage("database away"), ZeroDivisionError()])
def test_a_dead_letter_is_one_whatever_its_handler_makes_of_it(scene: Scene, error: Exception) -> None:
    batch = deliveries(order_placed())
    scene.handler.errors = {str(batch[0].message_id): Permanent("never")}
    scene.handler.abandoning = [error]

    scene.runner.settle(batch)

    assert [(1, DeadLetter("never"))] == scene.ladder.moved
    assert [1] == scene.source.acknowledged


def test_stopping_during_an_outage_gives_the_batch_back(scene: Scene) -> None:
    waiting = threading.Event()
    scene.handler.outages = 10**6
    scene.handler.during_outage = waiting.set
    scene.source.batches = deque([deliveries(order_placed())])

    scene.runner.start()
    assert waiting.wait(10)
    scene.runner.stop(10)

    assert not scene.runner.alive()
    assert (True, []) == (scene.source.cancelled, scene.source.acknowledged)


class InHand(FakeSource):
    """Gives what it has in hand once it was told to ask the queue for nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = threading.Event()

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        return super().take(limit, timeout_s=timeout_s) if self._asked.wait(timeout_s) else []

    def cancel(self) -> None:
        super().cancel()
        self._asked.set()


def test_stopping_settles_what_is_in_hand() -> None:
    source, handler = InHand(), FakeHandler()
    source.batches = deque(deliveries(order_placed()) for _ in range(3))
    stopped = Runner(source, FakeLadder(), handler, queue=QUEUE, batch_max=10)

    stopped.start()
    stopped.stop(10)

    assert not stopped.alive()
    assert (0, 3, 3) == (len(source.batches), len(source.acknowledged), len(handler.batches))


def test_stopping_ends_in_time_however_much_is_in_hand(scene: Scene) -> None:
    scene.source.batches = deque([deliveries(order_placed())])

    scene.runner.stop(0)
    scene.runner.start()

    eventually(lambda: not scene.runner.alive())
    assert (1, []) == (len(scene.source.batches), scene.source.acknowledged)


def test_each_event_has_a_span_below_the_one_of_its_message(scene: Scene, spans: InMemorySpanExporter) -> None:
    first, second = delivery(order_placed(), tag=1), delivery(envelope(order_placed()), tag=2)
    scene.handler.errors = {str(second.message_id): Transient("not yet")}

    scene.runner.settle([first, second])

    made = {span.attributes["messaging.message.id"]: span for span in spans.get_finished_spans()}
    assert {first.message_id, second.message_id} == set(made)
    trace_id, span_id = TRACEPARENT.split("-")[1:3]
    for span in made.values():
        assert (int(trace_id, 16), int(span_id, 16)) == (span.context.trace_id, span.parent.span_id)
        assert "weft.test process" == span.name
    assert ("ack", "retry") == (
        made[first.message_id].attributes["outcome"],
        made[second.message_id].attributes["outcome"],
    )
    assert [made[first.message_id].context.span_id] == [link.context.span_id for link in made[second.message_id].links]


def test_a_log_of_an_unexpected_failure_names_nobody_the_event_is_about(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    telemetry.log_for_commands()
    try:
        failing = delivery(user_created(email="ada@example.org"))
        scene.handler.errors[str(failing.message_id)] = ValueError("no mail for 'ada@example.org'")
        scene.runner.settle([failing])
    finally:
        structlog.reset_defaults()

    written = capsys.readouterr().err
    assert "no mail for '[redacted]'" in written
    assert "ada@example.org" not in written


def test_an_event_in_a_text_shows_neither_payload_nor_envelope() -> None:
    assert "ada@example.org" not in repr(event(user_created(email="ada@example.org")))


def test_a_loop_turns_for_as_long_as_it_begins_something(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()

    def stuck(_events: object) -> None:
        entered.set()
        leave.wait(30)

    monkeypatch.setattr(scene.handler, "handle", stuck)
    handling = threading.Thread(target=lambda: scene.runner.settle(deliveries(order_placed())))
    handling.start()
    assert entered.wait(10)

    assert scene.runner.turns()
    monkeypatch.setattr(runner, "STUCK_S", 0.0)
    assert not scene.runner.turns()
    leave.set()
    handling.join(30)


def test_the_span_of_an_event_names_the_lane_of_the_call_that_caused_it(
    scene: Scene, spans: InMemorySpanExporter
) -> None:
    laned, plain, forged = (envelope(order_placed()) for _ in range(3))
    laned.lane, forged.lane = "canary", "not a lane"
    batch = [
        replace(delivery(order_placed(), tag=tag), body=each.SerializeToString(), message_id=each.id)
        for tag, each in enumerate((laned, plain, forged), start=1)
    ]

    scene.runner.settle(batch)

    attributes = [span.attributes or {} for span in spans.get_finished_spans()]
    assert ["canary", None, None] == [each.get(telemetry.LANE) for each in attributes]
