"""Who gets which mail, and how often, whatever fails in between."""

import pytest

from tests.fakes.worker import (
    FakeDeliveries,
    FakeMailer,
    event,
    order_cancelled,
    order_placed,
    user_created,
)
from weft.catalog.v1.events_pb2 import ProductChanged
from worker.delivery import Event
from worker.errors import Outage, Permanent, Transient
from worker.handlers.email.handler import EmailHandler
from worker.handlers.email.templates import message_id


class Scene:
    def __init__(self) -> None:
        self.deliveries, self.mailer = FakeDeliveries(), FakeMailer()
        self.restart()
        self.handler.handle([event(user_created())])

    def restart(self) -> None:
        self.handler = EmailHandler(self.deliveries, self.mailer)

    def sent(self) -> list[str]:
        return [mail["Message-ID"] for mail in self.mailer.mails]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def ids(*events: Event) -> list[str]:
    return [message_id(one.id) for one in events]


def test_orders_and_cancellations_lead_to_one_mail_each(scene: Scene) -> None:
    placed, cancelled = event(order_placed()), event(order_cancelled())

    scene.handler.handle([placed, cancelled])

    assert ids(placed, cancelled) == scene.sent()
    assert ["order-placed", "order-cancelled"] == [mail["X-Weft-Kind"] for mail in scene.mailer.mails]
    assert {placed.id: "sent", cancelled.id: "sent"} == scene.deliveries.states


def test_an_event_that_comes_again_leads_to_nothing(scene: Scene) -> None:
    placed = event(order_placed())

    scene.handler.handle([placed, placed])
    scene.handler.handle([placed])
    scene.restart()
    scene.handler.handle([placed])

    assert ids(placed) == scene.sent()


def test_a_user_and_an_order_may_come_in_one_batch_in_any_order(scene: Scene) -> None:
    placed = event(order_placed(user="users/bob"))

    scene.handler.handle([placed, event(user_created("users/bob", email="bob@example.org"))])

    assert ["Ada <bob@example.org>"] == [str(mail["To"]) for mail in scene.mailer.mails]


def test_an_order_of_somebody_unknown_comes_back_later(scene: Scene) -> None:
    placed = event(order_placed(user="users/bob"))

    with pytest.raises(Transient) as raised:
        scene.handler.handle([placed])
    assert Transient is raised.type

    scene.handler.handle([event(user_created("users/bob", email="bob@example.org"))])
    scene.handler.handle([placed])
    assert ids(placed) == scene.sent()


def test_what_was_out_before_a_mail_failed_is_not_sent_again(scene: Scene) -> None:
    first, second, third = (event(order_placed()) for _ in range(3))
    scene.mailer.errors = {message_id(second.id): Permanent("refused")}

    with pytest.raises(Permanent):
        scene.handler.handle([first, second, third])
    assert {first.id: "sent", second.id: "reserved", third.id: "reserved"} == scene.deliveries.states

    scene.mailer.errors = {}
    scene.restart()
    scene.handler.handle([first, second, third])
    assert ids(first, second, third) == scene.sent()


def test_a_mail_that_could_not_be_marked_is_not_sent_again_by_the_same_process(scene: Scene) -> None:
    placed = event(order_placed())
    scene.deliveries.outages = 1

    with pytest.raises(Outage):
        scene.handler.handle([placed])
    scene.handler.handle([placed])

    assert ids(placed) == scene.sent()
    assert {placed.id: "sent"} == scene.deliveries.states


def test_a_crash_between_sending_and_marking_sends_the_same_message_id_once_more(scene: Scene) -> None:
    placed = event(order_placed())
    scene.deliveries.outages = 1
    with pytest.raises(Outage):
        scene.handler.handle([placed])

    scene.restart()
    scene.handler.handle([placed])

    assert ids(placed, placed) == scene.sent()


@pytest.mark.parametrize(
    "payload",
    [ProductChanged(product="products/1"), order_placed(user=""), order_placed(user="a\0b"), user_created("")],
)
def test_what_cannot_become_mail_is_put_aside_before_anything_is_sent(scene: Scene, payload: object) -> None:
    with pytest.raises(Permanent):
        scene.handler.handle([event(order_placed()), event(payload)])

    assert [] == scene.sent()
