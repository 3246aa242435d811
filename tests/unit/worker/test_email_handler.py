"""Who gets which mail, and how often, whatever fails in between."""

from dataclasses import replace
from datetime import timedelta

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
from worker.config import MAIL_BATCH
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


def bob(email: str = "bob@example.org") -> Event:
    return event(user_created("users/bob", name="Bob", email=email))


def orders_of_bob(count: int) -> list[Event]:
    """In the order in which they happened."""
    return [
        replace(one, occur_time=one.occur_time + timedelta(seconds=number))
        for number, one in enumerate(event(order_placed(user="users/bob")) for _ in range(count))
    ]


def test_a_mail_for_somebody_unknown_waits_and_goes_out_when_the_address_is_told(scene: Scene) -> None:
    placed = event(order_placed(user="users/bob"))
    scene.handler.handle([placed, event(order_placed())])
    assert "waiting" == scene.deliveries.states[placed.id]
    scene.restart()

    scene.handler.handle([placed, bob(), placed])
    scene.handler.handle([placed])

    assert ids(placed) == scene.sent()[1:]
    assert "sent" == scene.deliveries.states[placed.id]


def test_a_mail_that_waited_is_the_one_that_would_have_gone_out_at_once(scene: Scene) -> None:
    placed, told = event(order_placed(user="users/bob")), bob()
    scene.handler.handle([placed])
    scene.handler.handle([told])
    at_once = Scene()
    at_once.handler.handle([told, placed])

    assert [mail.as_bytes() for mail in at_once.mailer.mails] == [mail.as_bytes() for mail in scene.mailer.mails]


def test_mails_that_waited_go_out_in_the_order_of_their_events_however_many_they_are(scene: Scene) -> None:
    waiting = orders_of_bob(3 * MAIL_BATCH + 1)
    scene.handler.handle(waiting[::-1])

    scene.handler.handle([bob()])

    assert ids(*waiting) == scene.sent()


def test_a_crash_after_the_address_was_stored_loses_no_mail_that_waited(scene: Scene) -> None:
    first, second = orders_of_bob(2)
    told = bob()
    scene.handler.handle([first, second])
    scene.mailer.errors = {message_id(second.id): Outage("mail server away")}
    with pytest.raises(Outage):
        scene.handler.handle([told])
    assert {first.id: "sent", second.id: "reserved"} == scene.deliveries.states

    scene.mailer.errors = {}
    scene.restart()
    # Its own event does not send it: one event sends a mail.
    scene.handler.handle([second])
    assert ids(first) == scene.sent()
    scene.handler.handle([told])

    assert ids(first, second) == scene.sent()


@pytest.mark.parametrize(
    ("errors", "raised_type"),
    [([Permanent("no"), Permanent("no")], Permanent), ([Permanent("no"), Transient("later")], Transient)],
)
def test_one_mail_that_waited_and_fails_keeps_no_other_back_and_its_user_s_event_answers_for_it(
    scene: Scene, errors: list[Exception], raised_type: type[Exception]
) -> None:
    waiting, told = orders_of_bob(3), bob()
    scene.handler.handle(waiting)
    scene.mailer.errors = dict(zip([message_id(one.id) for one in waiting], errors, strict=False))

    with pytest.raises(raised_type) as raised:
        scene.handler.handle([told])
    assert raised_type is raised.type
    assert ids(waiting[2]) == scene.sent()

    scene.handler.abandon(told)
    assert ["refused", "refused", "sent"] == [scene.deliveries.states[one.id] for one in waiting]
    scene.mailer.errors = {}
    scene.handler.handle([told])
    assert ids(waiting[2], waiting[0], waiting[1]) == scene.sent()


def test_a_mail_whose_event_is_a_dead_letter_is_not_pending_and_goes_out_if_the_event_comes_again(
    scene: Scene,
) -> None:
    placed = event(order_placed())
    scene.mailer.errors = {message_id(placed.id): Permanent("refused")}
    with pytest.raises(Permanent):
        scene.handler.handle([placed])
    scene.handler.abandon(placed)
    assert {placed.id: "refused"} == scene.deliveries.states

    scene.mailer.errors = {}
    scene.handler.handle([placed])
    scene.handler.abandon(placed)

    assert ids(placed) == scene.sent()
    assert {placed.id: "sent"} == scene.deliveries.states


@pytest.mark.parametrize("payload", [user_created(""), user_created("a\0b"), ProductChanged(product="products/1")])
def test_an_event_that_led_to_no_mail_can_be_abandoned(scene: Scene, payload: object) -> None:
    scene.handler.abandon(event(payload))

    assert {} == scene.deliveries.states


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


def test_a_mail_that_may_be_out_is_looked_up_and_not_sent_again(scene: Scene) -> None:
    placed = event(order_placed())
    scene.mailer.tells = True
    scene.deliveries.outages = 1
    with pytest.raises(Outage):
        scene.handler.handle([placed])
    scene.restart()

    scene.handler.handle([placed])

    assert (ids(placed), ids(placed)) == (scene.sent(), scene.mailer.asked)
    assert {placed.id: "sent"} == scene.deliveries.states


def test_a_mail_that_was_reserved_and_never_left_is_sent(scene: Scene) -> None:
    placed = event(order_placed())
    scene.mailer.tells = True
    scene.mailer.errors = {message_id(placed.id): Transient("greylisted")}
    with pytest.raises(Transient):
        scene.handler.handle([placed])
    scene.mailer.errors = {}

    scene.handler.handle([placed])

    assert (ids(placed), ids(placed)) == (scene.sent(), scene.mailer.asked)


def test_a_server_that_cannot_tell_gets_the_mail_again(scene: Scene) -> None:
    placed = event(order_placed())
    scene.deliveries.outages = 1
    with pytest.raises(Outage):
        scene.handler.handle([placed])
    scene.restart()

    scene.handler.handle([placed])

    assert ids(placed, placed) == scene.sent()


def test_nobody_is_asked_about_a_mail_that_is_sent_for_the_first_time(scene: Scene) -> None:
    scene.mailer.tells = True

    scene.handler.handle([event(order_placed())])

    assert [] == scene.mailer.asked
