"""What the e-mail worker remembers, on a real database, and mail over real SMTP."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from random import Random
from typing import Any

import pytest

from tests.fakes.worker import (
    NOON,
    USER,
    FakeDeliveries,
    FakeMailer,
    event,
    order_cancelled,
    order_placed,
    user_created,
)
from tests.fakes.worker_smtp import smtp_server
from tests.integration.worker_databases import Migrated, databases, in_threads, through_outages
from worker.handlers.email import deliveries
from worker.handlers.email.deliveries import Counts, Deliveries, Due, Mail, Recipient, Released
from worker.handlers.email.handler import EmailHandler
from worker.handlers.email.smtp import Smtp
from worker.handlers.email.templates import message_id

ADA = Recipient(USER, "Ada", "ada@example.org")
BOB = Recipient("users/bob", "Bob", "bob@example.org")


@pytest.fixture
def migrated(migrated_url: Callable[[str, str], str]) -> Iterator[Callable[[str], Migrated]]:
    with databases(migrated_url) as make:
        yield make


@pytest.fixture(params=["fake", "real"])
def remembered(request: pytest.FixtureRequest) -> Any:
    """What the e-mail worker remembers: the fake and the real tables go through the same tests."""
    if request.param == "fake":
        return FakeDeliveries()
    return Deliveries(request.getfixturevalue("migrated")("email").database)


def mails(*ids: str, user: str = USER) -> list[Mail]:
    return [Mail(one, "order-placed", user, NOON, one.encode()) for one in ids]


def test_a_mail_is_open_until_it_is_marked(remembered: Any) -> None:
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    remembered.remember({str(uuid.uuid4()): ADA})

    assert {first: Due(ADA, again=False)} == remembered.reserve(mails(first, first))
    assert {first: Due(ADA, again=True), second: Due(ADA, again=False)} == remembered.reserve(mails(first, second))
    remembered.mark_sent([first])
    assert {second: Due(ADA, again=True)} == remembered.reserve(mails(first, second))
    remembered.mark_sent([first, second])
    assert {} == remembered.reserve(mails(first, second))


def test_a_mail_waits_for_its_address_and_is_then_the_users_events_to_send(remembered: Any) -> None:
    known, waiting, told = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    assert [] == remembered.remember({str(uuid.uuid4()): ADA})

    assert {known: Due(ADA, again=False)} == remembered.reserve(mails(known) + mails(waiting, user=BOB.user))
    assert [] == remembered.released([waiting])
    for _ in range(2):
        assert [waiting] == remembered.remember({told: BOB})
        assert [Released(waiting.encode(), BOB)] == remembered.released([waiting, known])
        assert {} == remembered.reserve(mails(waiting, user=BOB.user))
    remembered.mark_sent([waiting])

    assert [] == remembered.released([waiting])
    assert [] == remembered.remember({told: BOB})
    assert {} == remembered.reserve(mails(waiting, user=BOB.user))


def test_mails_that_waited_are_released_in_the_order_of_their_events(remembered: Any) -> None:
    late, early = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
    remembered.reserve(
        [
            Mail(late, "order-cancelled", BOB.user, NOON + timedelta(seconds=1), b"late"),
            Mail(early, "order-placed", BOB.user, NOON, b"early"),
        ]
    )

    assert [early, late] == remembered.remember({str(uuid.uuid4()): BOB})
    assert [b"early", b"late"] == [one.envelope for one in remembered.released([late, early])]


def test_a_refused_mail_is_sent_by_the_event_that_comes_again(remembered: Any) -> None:
    own, waiting, told = str(uuid.uuid4()), str(uuid.uuid4()), str(uuid.uuid4())
    remembered.remember({str(uuid.uuid4()): ADA})
    remembered.reserve(mails(own) + mails(waiting, user=BOB.user))

    remembered.refuse(waiting)  # not its event's to send
    remembered.refuse(own)
    assert {own: Due(ADA, again=True)} == remembered.reserve(mails(own))
    assert [waiting] == remembered.remember({told: BOB})
    remembered.refuse_waiting(BOB.user)
    assert [] == remembered.released([waiting])
    assert [waiting] == remembered.remember({told: BOB})
    assert [Released(waiting.encode(), BOB)] == remembered.released([waiting])

    remembered.mark_sent([own, waiting])
    remembered.refuse(own)
    remembered.refuse_waiting(BOB.user)
    assert {} == remembered.reserve(mails(own))
    assert [] == remembered.remember({told: BOB})


def test_what_waits_or_is_reserved_is_pending_and_what_was_refused_is_not(migrated: Callable[[str], Migrated]) -> None:
    tables_ = migrated("email")
    remembered = Deliveries(tables_.database)
    sent, reserved, refused, waiting, given_up = (str(uuid.uuid4()) for _ in range(5))
    remembered.remember({str(uuid.uuid4()): ADA})
    remembered.reserve(
        mails(sent, reserved, refused) + mails(waiting, user="users/eve") + mails(given_up, user=BOB.user)
    )
    remembered.mark_sent([sent])
    remembered.refuse(refused)
    remembered.refuse_waiting(BOB.user)

    assert Counts(sent={"order-placed": 1}, pending=2) == tables_.read(deliveries.counts)


def test_orders_and_their_users_in_any_order_over_several_workers_become_one_mail_each(
    migrated: Callable[[str], Migrated],
) -> None:
    tables_ = migrated("email")
    users = [f"users/{number}" for number in range(20)]
    told = [event(user_created(user, email=f"u{number}@example.org")) for number, user in enumerate(users)]
    placed = [event(order_placed(f"orders/{number}", user=users[number % 20])) for number in range(100)]
    everything = told + placed
    Random(7).shuffle(everything)
    mailers = [FakeMailer() for _ in range(4)]

    def work(number: int) -> None:
        handler, mine = EmailHandler(Deliveries(tables_.database), mailers[number]), everything[number::4]
        for start in range(0, len(mine), 5):
            through_outages(handler, mine[start : start + 5])

    in_threads(4, work)

    sent = Counter(mail["Message-ID"] for mailer in mailers for mail in mailer.mails)
    assert {message_id(one.id): 1 for one in placed} == sent
    assert Counts(sent={"order-placed": 100}, pending=0) == tables_.read(deliveries.counts)


def test_an_address_that_is_told_twice_is_the_first(remembered: Any) -> None:
    told, mail = str(uuid.uuid4()), str(uuid.uuid4())
    remembered.remember({told: ADA})
    remembered.remember({told: Recipient(USER, "Ada", "forged@example.org")})

    assert {mail: Due(ADA, again=False)} == remembered.reserve(mails(mail))


def test_orders_become_mail(migrated: Callable[[str], Migrated]) -> None:
    tables_ = migrated("email")
    placed, cancelled = event(order_placed()), event(order_cancelled())
    with smtp_server() as inbox:
        smtp = Smtp(inbox.address)
        handler = EmailHandler(Deliveries(tables_.database), smtp)
        handler.handle([event(user_created()), placed])
        handler.handle([cancelled, placed])
        smtp.close()

    assert [message_id(placed.id), message_id(cancelled.id)] == [mail["Message-ID"] for mail in inbox.mails]
    assert Counts(sent={"order-placed": 1, "order-cancelled": 1}, pending=0) == tables_.read(deliveries.counts)
