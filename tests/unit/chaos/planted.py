"""Bugs to be planted in a process before it does anything: each alters what the code does, and each was made before.

They are functions without arguments, so that a forked process can be told which one it has.
"""

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from svc.chassis import crash, idempotency, outbox
from svc.chassis.cache.node import Node
from svc.chassis.context import CallContext, Deadline
from svc.chassis.crash import Point
from svc.chassis.database import Database, Transaction
from svc.chassis.server import _Route
from svc.orders import events, statements, usecases
from svc.orders.store import Store
from weft.orders.v1 import orders_pb2
from worker import inbox, relay
from worker.delivery import Delivery
from worker.forgetting import Forgetting
from worker.handlers.email import templates
from worker.runner import Runner


def _replaced(text: str, old: str, new: str) -> str:
    assert 1 == text.count(old), f"the statement has changed: {old!r}"
    return text.replace(old, new)


def acknowledged_before_commit() -> None:
    """A batch is acknowledged when it is taken, "so that the broker has less to remember"."""
    settle = Runner.settle

    def hasty(self: Runner, deliveries: Sequence[Delivery]) -> bool:
        self._source.acknowledge(deliveries[-1])
        return settle(self, deliveries)

    Runner.settle = hasty  # type: ignore[method-assign]


def no_inbox() -> None:
    """Nobody remembers what was handled."""
    inbox.claim = lambda tx, consumer, message_ids: frozenset(message_ids)


def inbox_apart() -> None:
    """The effect is committed, and then the inbox, in a transaction of its own."""
    claim = inbox.claim

    def once(database: Database, consumer: str, batch: Sequence[Any], effect: Callable[..., None], **_: object) -> None:
        seen = "SELECT message_id FROM inbox WHERE consumer = %s"
        rows = database.read(lambda tx: tx.exec_driver_sql(seen, (consumer,)).all(), deadline=Deadline.after(10))
        known = {str(row.message_id) for row in rows}
        fresh = [event for event in batch if event.id not in known]
        if fresh:
            inbox.transaction(database, lambda tx: effect(tx, fresh))
            inbox.transaction(database, lambda tx: claim(tx, consumer, [event.id for event in fresh]))

    inbox.once = once  # type: ignore[assignment]


def outbox_row_apart() -> None:
    """The order is committed, and then its event, in a transaction of its own."""
    made: list[outbox.Event] = []
    build, place = events.order_placed, usecases.place_order

    def remembered(order: Any, *, call: CallContext) -> outbox.Event:
        made.append(build(order, call=call))
        return made[-1]

    def place_order(ports: usecases.Ports, *arguments: Any, call: CallContext, **options: Any) -> bytes:
        answer = place(ports, *arguments, call=call, **options)
        if made[-1].key == orders_pb2.Order.FromString(answer).name:
            ports.transactions.serializable(lambda tx: outbox.append(tx, made[-1:]), deadline=call.deadline)
        return answer

    events.order_placed = remembered
    usecases.place_order = place_order  # type: ignore[assignment]
    end = "RETURNING id\n)\nSELECT"
    statements.PLACE_ORDER = _replaced(
        statements.PLACE_ORDER, f"FROM complete\n    {end}", f"FROM complete WHERE false\n    {end}"
    )


def key_kept_after_the_effect() -> None:
    """The order is committed, and then the record of its request id, in a transaction of its own."""
    begin, end = (statements.PLACE_ORDER.index(each) for each in ("    INSERT INTO idempotency", "\n), lines AS"))
    statements.PLACE_ORDER = (
        statements.PLACE_ORDER[:begin] + "    SELECT %(request_id)s::uuid AS request_id" + statements.PLACE_ORDER[end:]
    )
    commit = usecases._commit

    def apart(
        ports: usecases.Ports, work: Callable[[Transaction], bytes], key: idempotency.Key, **options: Any
    ) -> bytes:
        deadline = Deadline.after(10)
        stored = ports.transactions.read(lambda tx: idempotency.recall(tx, key), deadline=deadline)
        if stored is not None:
            return stored
        answer = commit(ports, work, key, **options)

        def keep(tx: Transaction) -> None:
            idempotency.claim(tx, key)
            idempotency.complete(tx, key, answer)

        ports.transactions.serializable(keep, deadline=deadline)
        return answer

    usecases._commit = apart


def key_without_the_body() -> None:
    """A request id is known again, whatever it is sent with."""

    def recall(tx: Any, key: idempotency.Key) -> bytes | None:
        row = tx.exec_driver_sql(idempotency._RECALL, idempotency._identity(key)).first()
        return None if row is None else bytes(row.response)

    idempotency.recall = recall


def stock_taken_beside_the_transaction() -> None:
    """Stock is taken on a connection of its own, "so that its rows are locked for a shorter time"."""
    place = Store.place

    def hasty(self: Store, tx: Transaction, order: Any, **options: Any) -> Any:
        url = tx.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            for item in order.items:
                connection.execute(
                    "UPDATE stock SET quantity = quantity - %s WHERE product_id = %s", (item.quantity, item.product_id)
                )
        return place(self, tx, order, **options)

    Store.place = hasty  # type: ignore[method-assign]
    statements.PLACE_ORDER = _replaced(
        statements.PLACE_ORDER, "SET quantity = stock.quantity - excluded.quantity,", "SET quantity = stock.quantity,"
    )


def marked_before_it_is_confirmed() -> None:
    """Rows are marked and committed, and then published, "so that nothing is locked while the broker is waited for"."""

    def drain_once(self: relay.Relay) -> relay.Batch:
        def mark(tx: Transaction) -> relay.Claim:
            claimed = relay.claim(tx)
            tx.execute(relay._MARK, {"ids": [row.id for row in claimed.rows]})
            return claimed

        claimed = self._database.read_committed(mark, deadline=Deadline.after(10))
        if claimed.rows:
            crash.passed(Point.ROWS_PUBLISHED)
            list(relay.answers(claimed.rows, lambda rows: self._send(rows, Deadline.after(10))))
        return relay.Batch(published=len(claimed.rows))

    relay.Relay.drain_once = drain_once  # type: ignore[method-assign]


def nobody_asks_for_older_rows() -> None:
    """A relay publishes what it could lock, though another holds an older row of the key."""

    def claim(tx: Transaction, after: int = -1, *, most: int = relay.BATCH_MAX) -> relay.Claim:
        rows = [
            relay.Row(row.id, row.type, row.ordering_key, bytes(row.envelope), row.traceparent, row.sequence)
            for row in tx.execute(relay._CLAIM, {"after": after, "most": most})
        ]
        return relay.Claim(rows, len(rows), rows[-1].sequence if rows else after)

    relay.claim = claim


def a_mail_has_a_random_id() -> None:
    """Every mail has a Message-ID that nobody had before, as mail libraries make them."""
    templates.message_id = lambda event_id: f"<{uuid.uuid4()}@mail.weft>"


def filled_without_a_lease() -> None:
    """Whoever has loaded a value puts it into the cache, whatever has become of the lease."""
    tell = Node.tell

    def loose(self: Node, request: bytes, incarnation: Any) -> bytes:
        if request.startswith(b"ms "):
            head, _, body = request.partition(b"\r\n")
            request = b" ".join(word for word in head.split(b" ") if word[:1] != b"C") + b"\r\n" + body
        return tell(self, request, incarnation)

    Node.tell = loose  # type: ignore[method-assign]


def forgotten_before_the_commit() -> None:
    """The cache forgets when a write begins, and not when it is committed."""
    handle = _Route.handle

    def hasty(self: _Route, call: Any, is_active: Callable[[], bool]) -> Any:
        for outdated in self._outdates:
            self._forget(outdated.methods, [outdated.key.key(call.message)])
        self._outdates = ()
        return handle(self, call, is_active)

    _Route.handle = hasty  # type: ignore[method-assign]


def the_relay_has_nothing_forgotten() -> None:
    """Events leave the outbox, and the cache is not told: the writer has told it, has it not?"""

    def publish(self: Forgetting, messages: Sequence[Any], *, timeout_s: float) -> list[bool]:
        return self._publisher.publish(messages, timeout_s=timeout_s)

    Forgetting.publish = publish  # type: ignore[method-assign]
