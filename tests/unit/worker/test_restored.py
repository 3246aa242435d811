"""What is known, after a restore, of who has handled what; the work itself is in tests/integration/test_backup.py."""

from worker import restored
from worker.amqp import topology


def test_every_consumer_has_a_place_where_it_notes_what_it_has_handled() -> None:
    assert frozenset() == restored.uncovered()
    assert all(topology.event_types(consumer) for consumer in restored.NOTES)
