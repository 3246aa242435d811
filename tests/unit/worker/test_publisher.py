"""Publishing with confirms, over a link whose broker is the test."""

import uuid
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from svc.chassis import metrics
from tests.fakes.worker import FakeChannel, FakeLink
from worker.amqp import publisher as publishing
from worker.amqp.connection import Work
from worker.amqp.publisher import WINDOW, Publisher, _Window
from worker.delivery import Outgoing
from worker.errors import Outage


def message(routing_key: str = "orders.order.placed") -> Outgoing:
    return Outgoing("weft.events", routing_key, b"body", str(uuid.uuid4()), "t", {"traceparent": "tp", "n": 1})


def opened() -> tuple[Publisher, FakeLink, FakeChannel]:
    publisher = Publisher("amqp://", name="test", link=FakeLink)
    channel = publisher._link.begin()
    return publisher, publisher._link, channel


def at_message(channel: FakeChannel, number: int, answer: Callable[[], None]) -> None:
    """Let the broker answer as soon as it has got that many messages."""
    channel.on_publish = lambda: answer() if number == len(channel.published) else None


def test_a_message_counts_as_published_when_it_is_confirmed() -> None:
    publisher, _, channel = opened()
    at_message(channel, 1, lambda: channel.confirm(1))

    assert [True] == publisher.publish([message()], timeout_s=5)
    exchange, routing_key, body, properties = channel.published[0]
    assert ("weft.events", "orders.order.placed", b"body") == (exchange, routing_key, body)
    assert (2, "application/x-protobuf", "t") == (properties.delivery_mode, properties.content_type, properties.type)
    assert {"traceparent": "tp", "n": 1} == properties.headers


def test_one_confirm_may_stand_for_many_and_order_does_not_matter() -> None:
    publisher, _, channel = opened()

    def answer() -> None:
        channel.refuse(3)
        channel.confirm(4)
        channel.confirm(2, multiple=True)

    at_message(channel, 4, answer)

    assert [True, True, False, True] == publisher.publish([message() for _ in range(4)], timeout_s=5)


def test_a_message_that_no_queue_took_is_not_published_although_confirmed() -> None:
    publisher, _, channel = opened()

    def answer() -> None:
        channel.give_back(1)
        channel.confirm(2, multiple=True)

    at_message(channel, 2, answer)

    assert [False, True] == publisher.publish([message("nowhere"), message()], timeout_s=5)


def test_a_message_that_no_queue_took_is_counted() -> None:
    publisher, _, channel = opened()
    before = metrics.MESSAGES_RETURNED._value.get()

    def answer() -> None:
        channel.give_back(1)
        channel.confirm(1)

    at_message(channel, 1, answer)
    publisher.publish([message("nowhere")], timeout_s=5)

    assert 1 == metrics.MESSAGES_RETURNED._value.get() - before


class StoppedLink(FakeLink):
    """A link whose process is stopped between the caller's hand and the channel, for longer than the caller waits."""

    def submit(self, work: Work) -> None:
        if self.session is not None and self.stopped is not None:
            self.stopped()
        super().submit(work)

    stopped: Callable[[], None] | None = None


def test_what_wakes_after_its_time_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = Publisher("amqp://", name="test", link=StoppedLink)
    channel = publisher._link.begin()
    now = [100.0]
    monkeypatch.setattr(publishing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    publisher._link.stopped = lambda: now.__setitem__(0, 105.0)

    with pytest.raises(Outage, match="time to publish was over"):
        publisher.publish([message()], timeout_s=5)

    assert [] == channel.published


def test_more_than_a_window_goes_out_window_by_window() -> None:
    publisher, _, channel = opened()
    outstanding = []

    def answer() -> None:
        outstanding.append(len(channel.published))
        if len(channel.published) in (WINDOW, WINDOW + 1):
            channel.confirm(len(channel.published), multiple=True)

    channel.on_publish = answer

    assert [True] * (WINDOW + 1) == publisher.publish([message() for _ in range(WINDOW + 1)], timeout_s=5)
    assert WINDOW + 1 == len(outstanding)


def test_without_a_session_nothing_is_tried() -> None:
    publisher = Publisher("amqp://", name="test", link=FakeLink)

    assert not publisher.ready(0)
    with pytest.raises(Outage):
        publisher.publish([message()], timeout_s=5)


def test_a_lost_connection_leaves_nothing_known_and_the_next_session_starts_anew() -> None:
    publisher, link, channel = opened()
    at_message(channel, 2, link.end)

    with pytest.raises(Outage, match="lost"):
        publisher.publish([message(), message()], timeout_s=5)

    again = link.begin()
    at_message(again, 1, lambda: again.confirm(1))
    assert [True] == publisher.publish([message()], timeout_s=5)


def test_an_alarm_lets_waiting_callers_go_and_stops_new_ones_until_it_is_over() -> None:
    publisher, link, channel = opened()
    at_message(channel, 1, lambda: link.owner.blocked(True))

    with pytest.raises(Outage, match="alarm"):
        publisher.publish([message()], timeout_s=5)
    assert not publisher.ready(0)
    with pytest.raises(Outage):
        publisher.publish([message()], timeout_s=5)
    assert 1 == len(channel.published)

    link.owner.blocked(False)
    # The broker takes in late what it had not read: nobody waits for that confirm any more.
    at_message(channel, 2, lambda: channel.confirm(2, multiple=True))
    assert [True] == publisher.publish([message()], timeout_s=5)


def test_a_broker_that_says_nothing_ends_the_callers_patience_and_the_session() -> None:
    publisher, link, channel = opened()

    with pytest.raises(Outage, match="in time"):
        publisher.publish([message()], timeout_s=0.01)

    assert ({}, False, False) == (publisher._inflight, channel.is_open, publisher.ready(0))
    with pytest.raises(Outage):
        publisher.publish([message()], timeout_s=5)
    channel.confirm(1)  # too late, and no harm
    link.end()
    again = link.begin()
    at_message(again, 1, lambda: again.confirm(1))
    assert [True] == publisher.publish([message()], timeout_s=5)


def test_a_caller_that_lost_patience_over_one_session_does_not_end_the_next() -> None:
    publisher, link, _ = opened()
    window = _Window([message()], until=float("inf"))
    publisher._write(link.session, window)
    link.end()
    again = link.begin()

    publisher._give_up(link.session, window)

    assert (True, True) == (again.is_open, publisher.ready(0))


def test_what_its_caller_has_given_up_is_not_written_any_more() -> None:
    publisher, link, channel = opened()
    window = _Window([message()], until=float("inf"))
    window.abandoned = True

    publisher._write(link.session, window)

    assert ([], {}) == (channel.published, publisher._inflight)


def test_nothing_is_tried_when_no_time_is_left() -> None:
    publisher, _, channel = opened()

    with pytest.raises(Outage, match="time"):
        publisher.publish([message()], timeout_s=0.0)

    assert ([], True) == (channel.published, publisher.ready(0))


def test_an_alarm_that_ends_makes_nothing_ready_before_confirms_are_on() -> None:
    publisher = Publisher("amqp://", name="test", link=FakeLink)

    publisher.blocked(True)
    publisher.blocked(False)

    assert not publisher.ready(0)


def test_a_session_that_begins_under_an_alarm_is_ready_when_the_alarm_is_over() -> None:
    publisher = Publisher("amqp://", name="test", link=FakeLink)

    publisher.blocked(True)
    publisher._link.begin()
    assert not publisher.ready(0)

    publisher.blocked(False)
    assert publisher.ready(0)
