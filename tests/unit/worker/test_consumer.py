"""Taking deliveries off a queue, over a link whose broker is the test."""

from pika import BasicProperties

from tests.fakes.worker import FakeChannel, FakeLink
from worker.amqp.consumer import PREFETCH, Consumer

PROPERTIES = BasicProperties(message_id="id", type="t", headers={"x-weft-attempt": 2})


def opened() -> tuple[Consumer, FakeLink, FakeChannel]:
    consumer = Consumer("amqp://", queue="weft.test", name="test", link=FakeLink)
    channel = consumer._link.begin()
    return consumer, consumer._link, channel


def test_what_is_in_hand_is_bounded_and_comes_in_the_queues_order() -> None:
    consumer, _, channel = opened()
    for tag in (1, 2, 3):
        channel.hand_out(tag, PROPERTIES, b"body")

    assert ("weft.test", PREFETCH) == (channel.consuming, channel.prefetch)
    assert [1, 2] == [one.tag for one in consumer.take(2, timeout_s=0)]
    [last] = consumer.take(2, timeout_s=0)
    assert (3, 3, b"body", "id", "t") == (last.tag, last.attempt, last.body, last.message_id, last.type)
    assert [] == consumer.take(2, timeout_s=0)


def test_one_acknowledgement_settles_a_batch() -> None:
    consumer, _, channel = opened()
    channel.hand_out(7, PROPERTIES)

    consumer.acknowledge(consumer.take(1, timeout_s=0)[0])

    assert [(7, True)] == channel.acknowledged


def test_what_a_lost_session_gave_is_neither_held_nor_acknowledged() -> None:
    consumer, link, channel = opened()
    channel.hand_out(1, PROPERTIES)
    channel.hand_out(2, PROPERTIES)
    [taken] = consumer.take(1, timeout_s=0)

    link.end()
    again = link.begin()
    consumer.acknowledge(taken)

    assert not consumer.holds(taken)
    assert ([], []) == (again.acknowledged, consumer.take(9, timeout_s=0))
    again.hand_out(1, PROPERTIES)
    assert [True] == [consumer.holds(one) for one in consumer.take(9, timeout_s=0)]


def test_after_cancelling_nothing_more_is_asked_for_and_what_is_in_hand_can_be_settled() -> None:
    consumer, _, channel = opened()
    channel.hand_out(1, PROPERTIES)
    channel.hand_out(2, PROPERTIES)
    [taken] = consumer.take(1, timeout_s=0)

    consumer.cancel()
    channel.hand_out(3, PROPERTIES)
    consumer.acknowledge(taken)

    assert None is channel.consuming
    assert [2, 3] == [one.tag for one in consumer.take(9, timeout_s=0)]
    assert [] == consumer.take(9, timeout_s=30)
    assert [(1, True)] == channel.acknowledged


def test_what_is_given_back_is_neither_held_nor_followed_by_more_until_the_consumer_resumes() -> None:
    consumer, link, channel = opened()
    channel.hand_out(1, PROPERTIES)
    channel.hand_out(2, PROPERTIES)
    [taken] = consumer.take(1, timeout_s=0)

    consumer.give_back()
    channel.hand_out(3, PROPERTIES)
    assert (False, False, []) == (channel.is_open, consumer.holds(taken), consumer.take(9, timeout_s=0))
    link.end()
    again = link.begin()
    assert None is again.consuming

    consumer.resume()
    again.hand_out(1, PROPERTIES)
    assert ("weft.test", PREFETCH) == (again.consuming, again.prefetch)
    assert [True] == [consumer.holds(one) for one in consumer.take(9, timeout_s=0)]


def test_a_consumer_that_resumes_without_a_session_consumes_on_the_next() -> None:
    consumer, link, _ = opened()
    consumer.give_back()

    consumer.resume()
    link.end()

    assert "weft.test" == link.begin().consuming


def test_a_queue_that_is_deleted_ends_the_channel_so_that_it_is_declared_again() -> None:
    _, _, channel = opened()

    channel.cancel_by_broker(None)

    assert not channel.is_open


def test_text_that_is_not_utf_8_is_escaped_and_still_fits() -> None:
    consumer, _, channel = opened()
    channel.hand_out(1, BasicProperties(message_id=b"\xff" * 200, reply_to="x"))

    [taken] = consumer.take(1, timeout_s=0)

    assert (255, "\\xff", "x", None) == (len(taken.message_id), taken.message_id[:4], taken.reply_to, taken.type)
