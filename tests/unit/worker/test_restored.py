"""What is known, after a restore, of who has handled what; the work itself is in test_sent_again.py."""

from svc.analytics import wiring as analytics
from worker import restored
from worker.amqp import topology


def test_every_consumer_has_a_place_where_it_notes_what_it_has_handled() -> None:
    assert frozenset() == restored.uncovered()
    assert all(topology.event_types(consumer) for consumer in restored.NOTES)


def test_every_consumer_that_notes_beside_others_is_swept_with_them() -> None:
    beside = {consumer for consumer, handled in restored.NOTES.items() if handled.database == "analytics"}

    assert beside == set(analytics.CONSUMERS)
