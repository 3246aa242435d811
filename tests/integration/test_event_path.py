"""The event path of a running mesh: one order leads to one audit record, one mail and one count."""

import itertools
import random
import string
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import pytest
import sqlalchemy as sa
from google.protobuf.empty_pb2 import Empty
from sqlalchemy.exc import ProgrammingError

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.replay.run import MINOR_NANOS
from deploy.supervisor.mesh import Mesh
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from tests.integration.shop import Customer, Shop, place_request, refused, request_id, traceparent
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2
from weft.events.v1.envelope_pb2 import Envelope
from weft.orders.v1.events_pb2 import OrderCancelled, OrderPlaced
from worker.delivery import Event
from worker.handlers.audit import log
from worker.handlers.email.templates import message_id

pytestmark = pytest.mark.calls

T = TypeVar("T")

READ_S: Final = 60.0
BY_SUBJECT: Final = (
    sa.select(log.audit_log)
    .where(log.audit_log.c.subject == sa.bindparam("subject"))
    .order_by(log.audit_log.c.sequence)
)
CHAIN: Final = sa.select(log.audit_log).order_by(log.audit_log.c.sequence)


@pytest.fixture
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    """A shop in a currency that nobody has sold in yet: its sales are this test's alone."""
    plain = Shop(mesh, operator)
    taken = {day.revenue.currency_code for day in days(plain)}
    free = [code for code in map("".join, itertools.product(string.ascii_uppercase, repeat=3)) if code not in taken]
    return Shop(mesh, operator, currency=random.choice(free))


@pytest.fixture
def ada(shop: Shop) -> Customer:
    return shop.customer()


@pytest.fixture(scope="module")
def audit(mesh: Mesh) -> Iterator[Database]:
    database = Database((mesh.secrets / "database-audit.url").read_text().strip(), pool_size=1, name="test")
    yield database
    database.close()


def read(database: Database, work: Callable[[Transaction], T]) -> T:
    return database.read(work, deadline=Deadline.after(READ_S))


def records(
    audit: Database, subject: str, kind: type[OrderPlaced] | type[OrderCancelled], order: str
) -> list[Envelope]:
    """What the audit log has of one type about one order."""
    found = []
    for row in read(audit, lambda tx: tx.execute(BY_SUBJECT, {"subject": subject}).all()):
        envelope = Envelope.FromString(row.envelope)
        payload = kind()
        if envelope.payload.Unpack(payload) and payload.order == order:
            assert (str(row.event_id), row.type) == (envelope.id, envelope.type)
            assert (row.source, row.subject, row.actor) == (envelope.source, envelope.subject, envelope.actor)
            found.append(envelope)
    return found


def mails(shop: Shop, customer: Customer, kind: str) -> list[Any]:
    """The mails of one kind that reached a customer."""
    listed = shop.fetch("mail", f"/messages?limit=100&to={customer.email}")["messages"]
    return [shop.fetch("mail", f"/messages/{mail['id']}") for mail in listed if mail["kind"] == kind]


def days(shop: Shop) -> Sequence[analytics_pb2.DailySales]:
    answer: analytics_pb2.Sales = shop.operator.call(shop.analytics.GetSales, analytics_pb2.GetSalesRequest())
    return answer.days


def sales(shop: Shop) -> tuple[int, int, int, int]:
    """Orders, cancellations, pieces and revenue in the shop's currency; over all days, since midnight may pass."""
    mine = [day for day in days(shop) if day.revenue.currency_code == shop.currency]
    return (
        sum(day.orders for day in mine),
        sum(day.cancellations for day in mine),
        sum(day.pieces for day in mine),
        sum(day.revenue.units * 100 + day.revenue.nanos // MINOR_NANOS for day in mine),
    )


def test_one_order_leads_to_one_audit_record_one_confirmation_and_one_count(
    shop: Shop, ada: Customer, audit: Database
) -> None:
    clock = shop.product(price_minor=1250, name="Wooden clock & Söhne")
    tray = shop.product(price_minor=99, name="Red tray")
    key, trace = request_id(), traceparent()

    order = shop.place(ada, {clock: 2, tray: 5}, key=key, traceparent=trace)
    # The same call again is the same order, and no other event.
    assert order == shop.place(ada, {clock: 2, tray: 5}, key=key, traceparent=trace)

    eventually(lambda: records(audit, ada.id, OrderPlaced, order.name))
    eventually(lambda: mails(shop, ada, "order-placed"))
    eventually(lambda: sales(shop)[0])
    (envelope,) = records(audit, ada.id, OrderPlaced, order.name)
    assert ("weft.orders.v1.OrderPlaced", "orders", order.name) == (
        envelope.type,
        envelope.source,
        envelope.ordering_key,
    )
    assert (ada.id, "") == (envelope.subject, envelope.actor)
    assert trace.split("-")[1] == envelope.traceparent.split("-")[1]
    placed = OrderPlaced()
    envelope.payload.Unpack(placed)
    assert (order.user, order.total, order.create_time) == (placed.user, placed.total, placed.place_time)

    (mail,) = mails(shop, ada, "order-placed")
    assert (message_id(envelope.id), [ada.email]) == (mail["message_id"], mail["to"])
    number = order.name.removeprefix("orders/")
    assert f"Your order {number}" == mail["subject"]
    expected = [
        "Hello Ada,",
        f"thank you for your order {number}. You have ordered:",
        f"  2 x Wooden clock & Söhne, 12.50 {shop.currency} each",
        f"  5 x Red tray, 0.99 {shop.currency} each",
        f"Total: 29.95 {shop.currency}",
    ]
    assert expected == [line.rstrip() for line in mail["text"].splitlines() if line.strip()]

    assert (1, 0, 7, 2995) == sales(shop)


def test_one_cancellation_leads_to_one_audit_record_one_mail_and_one_count(
    shop: Shop, ada: Customer, audit: Database
) -> None:
    tray = shop.product(price_minor=200, name="Red tray")
    order = shop.place(ada, {tray: 5})
    eventually(lambda: mails(shop, ada, "order-placed"))

    part = shop.cancel(ada, order.name, {tray: 2})
    eventually(lambda: mails(shop, ada, "order-cancelled"))
    whole = shop.cancel(ada, order.name)

    eventually(lambda: len(mails(shop, ada, "order-cancelled")) == 2)
    eventually(lambda: len(records(audit, ada.id, OrderCancelled, order.name)) == 2)
    first, second = records(audit, ada.id, OrderCancelled, order.name)
    facts = [OrderCancelled.FromString(envelope.payload.value) for envelope in (first, second)]
    assert [(2, False), (3, True)] == [(fact.items[0].quantity, fact.whole) for fact in facts]
    assert [part.update_time, whole.update_time] == [fact.cancel_time for fact in facts]
    by_id = {mail["message_id"]: mail for mail in mails(shop, ada, "order-cancelled")}
    assert {message_id(first.id), message_id(second.id)} == set(by_id)
    number = order.name.removeprefix("orders/")
    assert f"Your order {number} was cancelled in part" == by_id[message_id(first.id)]["subject"]
    assert f"You get back: 4.00 {shop.currency}" in by_id[message_id(first.id)]["text"]
    assert f"Your order {number} was cancelled" == by_id[message_id(second.id)]["subject"]
    assert f"You get back: 6.00 {shop.currency}" in by_id[message_id(second.id)]["text"]
    assert 1 == len(mails(shop, ada, "order-placed"))
    assert all([ada.email] == mail["to"] for mail in by_id.values())

    eventually(lambda: sales(shop)[1] == 2)
    assert (1, 2, 0, 0) == sales(shop)


def test_an_order_that_was_refused_leaves_no_trace_in_the_books(shop: Shop, ada: Customer, audit: Database) -> None:
    few = shop.product(stock=1)

    refused(shop.orders.PlaceOrder, place_request({few: 2}), ada)
    order = shop.place(ada, {few: 1})

    eventually(lambda: mails(shop, ada, "order-placed"))
    eventually(lambda: records(audit, ada.id, OrderPlaced, order.name))
    rows = read(audit, lambda tx: tx.execute(BY_SUBJECT, {"subject": ada.id}).all())
    assert {"weft.orders.v1.OrderPlaced": 1, "weft.orders.v1.StockDepleted": 1} == {
        row.type: sum(other.type == row.type for other in rows) for row in rows
    }


def test_the_audit_chain_has_no_gap_and_every_hash_follows_from_the_one_before(audit: Database) -> None:
    def work(tx: Transaction) -> tuple[int, bytes]:
        sequence, previous = 0, log.GENESIS
        for row in tx.execute(CHAIN):
            event = Event(
                id=str(row.event_id),
                type=row.type,
                source=row.source,
                subject=row.subject,
                actor=row.actor,
                occur_time=row.occur_time,
                payload=Empty(),
                envelope=bytes(row.envelope),
            )
            assert (sequence + 1, previous) == (row.sequence, bytes(row.previous_hash))
            assert log.record_hash(previous, row.sequence, event) == bytes(row.hash)
            sequence, previous = row.sequence, bytes(row.hash)
        head = tx.execute(sa.select(log.audit_head)).one()
        assert (head.sequence, bytes(head.hash)) == (sequence, previous)
        return sequence, previous

    sequence, last = read(audit, work)

    assert sequence > 0
    assert log.GENESIS != last


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET subject = ''", "DELETE FROM audit_log"])
def test_the_audit_log_refuses_to_be_changed_even_by_its_owner(audit: Database, statement: str) -> None:
    def work(tx: Transaction) -> None:
        # Of no row, and rolled back: the test must not be what breaks the log.
        tx.exec_driver_sql(f"{statement} WHERE false")
        pytest.fail("the statement was let through")

    with pytest.raises(ProgrammingError, match="append-only"):
        audit.serializable(work, deadline=Deadline.after(READ_S))
