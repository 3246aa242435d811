"""What a worker says of the events it takes."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from svc.chassis.consumers import Recorder
from tests.fakes.clock import FakeClock
from weft.orders.v1.events_pb2 import OrderPlaced
from weft_protos import usage
from worker.amqp import topology
from worker.delivery import Event
from worker.errors import Transient
from worker.noting import Noting

NOW = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
PLACED, CANCELLED = "weft.orders.v1.OrderPlaced", "weft.orders.v1.OrderCancelled"
WHO = "email-worker; contract=0123456789ab"


class Mailing:
    """A handler that remembers, and fails when told to."""

    def __init__(self) -> None:
        self.handled: list[Event] = []
        self.abandoned: list[Event] = []
        self.failing = False

    def handle(self, events: Sequence[Event]) -> None:
        if self.failing:
            raise Transient("not now")
        self.handled += events

    def abandon(self, event: Event) -> None:
        self.abandoned.append(event)


def event(name: str) -> Event:
    return Event("1", name, "orders", "orders/1", "users/1", NOW, OrderPlaced(), b"")


@pytest.fixture
def recorder() -> Recorder:
    return Recorder("email-worker", one_in=20, clock=FakeClock(NOW), since=[PLACED, CANCELLED])


def noted(recorder: Recorder) -> set[usage.Entry]:
    content = recorder.unsaid()
    return set() if content is None else set(usage.decode(content))


def test_what_has_taken_effect_is_noted_as_read_whole(recorder: Recorder) -> None:
    mailing = Mailing()
    Noting(mailing, recorder, who=WHO).handle([event(PLACED), event(PLACED)])

    begun = {usage.since(PLACED), usage.since(CANCELLED)}
    assert {*usage.taken(PLACED, WHO), *begun} == noted(recorder)
    assert 2 == len(mailing.handled)


def test_what_has_not_taken_effect_is_not_noted(recorder: Recorder) -> None:
    mailing = Mailing()
    mailing.failing = True
    noting = Noting(mailing, recorder, who=WHO)
    with pytest.raises(Transient):
        noting.handle([event(PLACED)])
    noting.abandon(event(PLACED))

    assert {usage.since(PLACED), usage.since(CANCELLED)} == noted(recorder)
    assert [PLACED] == [each.type for each in mailing.abandoned]


def test_a_sample_of_none_notes_no_events() -> None:
    recorder = Recorder("email-worker", one_in=0, clock=FakeClock(NOW), since=[PLACED])
    recorder.took([PLACED], WHO)

    assert set() == noted(recorder)


def test_a_worker_consumes_what_the_contracts_send_to_its_queue() -> None:
    email = topology.event_types("email")

    assert {PLACED, CANCELLED, "weft.identity.v1.UserCreated"} <= set(email)
    assert "weft.catalog.v1.ProductChanged" not in email
    assert set(email) <= set(topology.event_types("audit"))
