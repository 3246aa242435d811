"""Fakes of the workers' ports, in memory, and events to feed them with."""

import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message
from google.type.money_pb2 import Money
from pika.spec import Basic

from weft.events.v1.envelope_pb2 import Envelope
from weft.identity.v1.events_pb2 import UserCreated
from weft.orders.v1.events_pb2 import EventItem, OrderCancelled, OrderPlaced
from worker.amqp.connection import Owner, Session, Work
from worker.delivery import DeadLetter, Delivery, Event, Outgoing, Retry, decode
from worker.errors import Outage, Overrun
from worker.handlers.email.deliveries import Due, Mail, Recipient, Released

NOON = datetime(2011, 12, 5, 12, 0, tzinfo=UTC)
USER = "users/ada"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def pounds(minor: int) -> Money:
    return Money(currency_code="GBP", units=minor // 100, nanos=minor % 100 * 10_000_000)


def order_placed(order: str = "orders/1", *, user: str = USER, minor: int = 250, when: datetime = NOON) -> OrderPlaced:
    placed = OrderPlaced(order=order, user=user, total=pounds(minor))
    placed.items.append(EventItem(product_id="22423", display_name="CAKESTAND", quantity=2, unit_price=pounds(125)))
    placed.place_time.FromDatetime(when)
    return placed


def order_cancelled(
    order: str = "orders/1", *, user: str = USER, minor: int = 125, when: datetime = NOON
) -> OrderCancelled:
    cancelled = OrderCancelled(order=order, user=user, total=pounds(minor), whole=False)
    cancelled.items.append(EventItem(product_id="22423", display_name="CAKESTAND", quantity=1, unit_price=pounds(125)))
    cancelled.cancel_time.FromDatetime(when)
    return cancelled


def user_created(user: str = USER, *, name: str = "Ada", email: str = "ada@example.org") -> UserCreated:
    return UserCreated(user=user, display_name=name, email=email)


def envelope(payload: Message, *, event_id: str | None = None) -> Envelope:
    sealed = Envelope(
        id=event_id or str(uuid.uuid4()), type=payload.DESCRIPTOR.full_name, source="orders", subject="ada"
    )
    sealed.occur_time.FromDatetime(NOON)
    sealed.payload.Pack(payload)
    return sealed


def delivery(payload: Message | Envelope, *, queue: str = "weft.email", tag: int = 1) -> Delivery:
    sealed = payload if isinstance(payload, Envelope) else envelope(payload)
    return Delivery(
        queue=queue,
        body=sealed.SerializeToString(deterministic=True),
        message_id=sealed.id,
        type=sealed.type,
        headers={"traceparent": TRACEPARENT},
        tag=tag,
        session=1,
    )


def deliveries(*payloads: Message) -> list[Delivery]:
    return [delivery(payload, tag=tag) for tag, payload in enumerate(payloads, 1)]


def event(payload: Message, *, event_id: str | None = None) -> Event:
    return decode(delivery(envelope(payload, event_id=event_id)))


def garbage(*, tag: int = 1) -> Delivery:
    return replace(delivery(order_placed(), tag=tag), body=b"\xff\xff not an envelope")


@dataclass
class FakeSource:
    """A queue that gives one batch after the other; it can take back what it gave."""

    batches: deque[list[Delivery]] = field(default_factory=deque)
    acknowledged: list[int] = field(default_factory=list)
    lost: bool = False
    cancelled: bool = False
    given_back: int = 0
    resumed: int = 0

    def take(self, limit: int, *, timeout_s: float) -> list[Delivery]:
        return self.batches.popleft()[:limit] if self.batches else []

    def holds(self, delivery: Delivery) -> bool:
        return not self.lost

    def acknowledge(self, last: Delivery) -> None:
        self.acknowledged.append(last.tag)

    def cancel(self) -> None:
        self.cancelled = True

    def give_back(self) -> None:
        self.given_back += 1
        self.lost = True

    def resume(self) -> None:
        self.resumed += 1


@dataclass
class FakeLadder:
    """Keeps what was moved; away for the first `outages` times."""

    outages: int = 0
    moved: list[tuple[int, Retry | DeadLetter]] = field(default_factory=list)

    def move(self, delivery: Delivery, outcome: Retry | DeadLetter) -> None:
        if self.outages:
            self.outages -= 1
            raise Outage("broker away")
        self.moved.append((delivery.tag, outcome))


@dataclass
class FakeHandler:
    """Keeps the batches it was given; fails for events that have an error."""

    errors: dict[str, Exception] = field(default_factory=dict)
    outages: int = 0
    during_outage: Callable[[], None] = lambda: None
    #: More than so many at once do not fit into a transaction.
    fits: int = 10**6
    batches: list[list[str]] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)
    abandoning: list[Exception] = field(default_factory=list)

    def handle(self, events: Sequence[Event]) -> None:
        self.batches.append([event.id for event in events])
        if self.outages:
            self.outages -= 1
            self.during_outage()
            raise Outage("database away")
        if len(events) > self.fits:
            raise Overrun("too much")
        for one in events:
            if one.id in self.errors:
                raise self.errors[one.id]

    def abandon(self, event: Event) -> None:
        if self.abandoning:
            raise self.abandoning.pop()
        self.abandoned.append(event.id)


@dataclass
class FakeDeliveries:
    """The e-mail worker's tables."""

    people: dict[str, Recipient] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)
    kept: dict[str, Mail] = field(default_factory=dict)
    outages: int = 0

    def remember(self, people: Mapping[str, Recipient]) -> list[str]:
        for event_id, person in people.items():
            if event_id not in self.told:
                self.told.add(event_id)
                self.people[person.user] = person
        users = {person.user for person in people.values()}
        waited = sorted((mail.occur_time, mail.message_id) for mail in self.kept.values() if mail.user in users)
        self.states.update({message_id: "reserved" for _, message_id in waited})
        return [message_id for _, message_id in waited]

    def released(self, message_ids: Collection[str]) -> list[Released]:
        mails = [self.kept[one] for one in message_ids if one in self.kept and self.states[one] == "reserved"]
        mails.sort(key=lambda mail: (mail.occur_time, mail.message_id))
        return [Released(mail.envelope, self.people[mail.user]) for mail in mails]

    def reserve(self, mails: Sequence[Mail]) -> dict[str, Due]:
        found: dict[str, Due] = {}
        for mail in mails:
            again = mail.message_id in self.states
            if mail.message_id not in self.states and mail.user not in self.people:
                self.states[mail.message_id], self.kept[mail.message_id] = "waiting", mail
            if mail.message_id in self.kept:
                continue
            if self.states.get(mail.message_id) != "sent":
                self.states[mail.message_id] = "reserved"
                found.setdefault(mail.message_id, Due(self.people[mail.user], again))
        return found

    def mark_sent(self, message_ids: Collection[str]) -> None:
        if self.outages:
            self.outages -= 1
            raise Outage("database away")
        self.states.update(dict.fromkeys(message_ids, "sent"))
        for one in message_ids:
            self.kept.pop(one, None)

    def refuse(self, message_id: str) -> None:
        if message_id not in self.kept and self.states.get(message_id) == "reserved":
            self.states[message_id] = "refused"

    def refuse_waiting(self, user: str) -> None:
        self.states.update({mail.message_id: "refused" for mail in self.kept.values() if mail.user == user})


@dataclass
class FakeMailer:
    """Keeps mails; refuses those whose Message-ID has an error."""

    mails: list[EmailMessage] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    #: Whether it can say what it has taken, and whom it was asked about.
    tells: bool = False
    asked: list[str] = field(default_factory=list)

    def send(self, mail: EmailMessage) -> None:
        if mail["Message-ID"] in self.errors:
            raise self.errors[mail["Message-ID"]]
        self.mails.append(mail)

    def seen(self, message_id: str) -> bool | None:
        self.asked.append(message_id)
        return any(mail["Message-ID"] == message_id for mail in self.mails) if self.tells else None


@dataclass
class FakePublisher:
    """A broker that takes messages as it is told to."""

    is_ready: bool = True
    outages: int = 0
    refused: set[str | None] = field(default_factory=set)
    published: list[Outgoing] = field(default_factory=list)

    def ready(self, timeout_s: float) -> bool:
        return self.is_ready

    def publish(self, messages: Sequence[Outgoing], *, timeout_s: float) -> list[bool]:
        if self.outages:
            self.outages -= 1
            raise Outage("broker away")
        self.published += messages
        return [message.message_id not in self.refused for message in messages]


class FakeChannel:
    """The part of pika's asynchronous channel that publisher and consumer use; the broker's side is the test's."""

    def __init__(self) -> None:
        self.is_open = True
        self.published: list[tuple[str, str, bytes, Any]] = []
        self.acknowledged: list[tuple[int, bool]] = []
        self.prefetch = 0
        self.consuming: str | None = None
        self.on_publish: Callable[[], None] = lambda: None

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        self._on_return = callback

    def confirm_delivery(self, on_confirm: Callable[[Any], None], callback: Callable[[Any], None]) -> None:
        self._on_confirm = on_confirm
        callback(None)

    def basic_publish(self, exchange: str, routing_key: str, body: bytes, properties: Any, *, mandatory: bool) -> None:
        assert mandatory
        self.published.append((exchange, routing_key, body, properties))
        self.on_publish()

    def confirm(self, tag: int, *, multiple: bool = False) -> None:
        self._on_confirm(SimpleNamespace(method=Basic.Ack(delivery_tag=tag, multiple=multiple)))

    def refuse(self, tag: int) -> None:
        self._on_confirm(SimpleNamespace(method=Basic.Nack(delivery_tag=tag)))

    def give_back(self, tag: int) -> None:
        exchange, routing_key, body, properties = self.published[tag - 1]
        self._on_return(self, Basic.Return(exchange=exchange, routing_key=routing_key), properties, body)

    def basic_qos(self, prefetch_count: int) -> None:
        self.prefetch = prefetch_count

    def basic_consume(self, queue: str, on_message_callback: Callable[..., None]) -> str:
        self.consuming, self._on_message = queue, on_message_callback
        return "consumer"

    def add_on_cancel_callback(self, callback: Callable[[Any], None]) -> None:
        self.cancel_by_broker = callback

    def hand_out(self, tag: int, properties: Any, body: bytes = b"") -> None:
        self._on_message(self, Basic.Deliver(delivery_tag=tag), properties, body)

    def basic_ack(self, tag: int, *, multiple: bool) -> None:
        self.acknowledged.append((tag, multiple))

    def basic_cancel(self, _tag: str) -> None:
        self.consuming = None

    def close(self) -> None:
        self.is_open = False


class FakeLink:
    """A link whose sessions the test begins and ends. Submitted work runs at once."""

    def __init__(self, url: str, *, name: str, owner: Owner) -> None:
        self.owner = owner
        self.session: Session | None = None
        self.numbers = 0

    def begin(self) -> FakeChannel:
        self.numbers += 1
        channel = FakeChannel()
        self.session = Session(self.numbers, channel)
        self.owner.opened(self.session)
        return channel

    def end(self) -> None:
        self.session = None
        self.owner.lost("gone")

    def submit(self, work: Work) -> None:
        usable = self.session is not None and self.session.channel.is_open
        work(self.session if usable else None)
