"""Stock and orders in the database: SQL, and nothing that decides.

Called by use cases inside a transaction of theirs. Every statement is a constant in the common subset of PostgreSQL
and CockroachDB and runs as driver SQL: lists travel as arrays, so an order of 500 items is one statement, not 500,
and nothing is compiled per call. Stock rows are locked in the order of their product ids, so two transactions never
wait for each other in a circle.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from svc.chassis.database import Transaction, rows
from svc.chassis.errors import Internal
from svc.chassis.idempotency import Key
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event
from svc.orders import statements
from svc.orders.model import Cancellation, Cursor, Item, Order, Placement, Shortage, State, Stock


class Store:
    """Reads and writes stock and orders; keeps no state of its own."""

    def place(self, tx: Transaction, order: Order, *, key: Key, answer: bytes, event: Event) -> Placement:
        """Claims `key`, takes stock, stores `order`, `event` and `answer`, all in one statement.

        Where the key is taken nothing is written. Where stock is short some of it is taken all the same: the caller
        must let the transaction fail.
        """
        parameters = _placement_parameters(order, key, answer, event)
        [(claimed, taken, depleted)] = rows(tx, statements.PLACE_ORDER, parameters)
        if not claimed:
            return Placement(claimed=False)
        if len(taken) == len(order.items):
            return Placement(claimed=True, depleted=tuple(sorted(depleted)))
        return Placement(claimed=True, shortages=self._shortages(tx, order, frozenset(taken)))

    def order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        """One order of a user's."""
        return self._one(tx, statements.ORDER, order_id, owner=owner)

    def lock_order(self, tx: Transaction, order_id: str, *, owner: str) -> Order | None:
        """One order of a user's, which nobody else changes until this transaction ends."""
        return self._one(tx, statements.LOCK_ORDER, order_id, owner=owner)

    def orders(self, tx: Transaction, user_id: str, *, before: Cursor | None, limit: int) -> Sequence[Order]:
        """A user's orders, the newest first, from the one after `before` on."""
        if before is None:
            heads = tx.exec_driver_sql(statements.FIRST_ORDERS, {"user_id": user_id, "limit": limit}).all()
        else:
            parameters = {"user_id": user_id, "limit": limit, "time": before.create_time, "id": before.order_id}
            heads = tx.exec_driver_sql(statements.NEXT_ORDERS, parameters).all()
        return self._with_items(tx, heads)

    def revisions(self, tx: Transaction, order_ids: Sequence[str]) -> Mapping[str, int]:
        """The present revisions of some orders."""
        rows = tx.exec_driver_sql(statements.REVISIONS, {"ids": list(order_ids)})
        return {str(row.id): row.revision for row in rows}

    def cancel(self, tx: Transaction, cancellation: Cancellation) -> None:
        """Stores a cancellation of a locked order and puts its pieces back into stock."""
        order = cancellation.order
        items = sorted(cancellation.items, key=lambda item: item.product_id)
        parameters = {
            "order_id": order.id,
            "revision": order.revision,
            "state": order.state.value,
            "total_minor": order.total_minor,
            "now": order.update_time,
            "product_ids": [item.product_id for item in items],
            "quantities": [item.quantity for item in items],
        }
        counts = tuple(tx.exec_driver_sql(statements.CANCEL_ORDER, parameters).one())
        if counts != (1, len(items), len(items)):
            # The order was locked and every item's stock row exists for good: anything else is our own mistake,
            # and committing it would break the conservation of stock.
            raise Internal(reason="CANCELLATION_INCOMPLETE")

    def stock(self, tx: Transaction, product_ids: Sequence[str]) -> Mapping[str, Stock]:
        """The stock of those of the products that have any on record."""
        rows = tx.exec_driver_sql(statements.STOCK, {"product_ids": list(product_ids)})
        return {row.product_id: Stock(row.product_id, row.quantity, row.update_time) for row in rows}

    def set_stock(self, tx: Transaction, stock: Stock, *, request_id: str) -> None:
        """Sets the stock of one product and records the difference as a movement."""
        held = {"product_id": stock.product_id, "now": stock.update_time}
        before = tx.exec_driver_sql(statements.HOLD_STOCK, held).scalar_one()
        parameters = {
            "product_id": stock.product_id,
            "quantity": stock.quantity,
            "now": stock.update_time,
            "movement_id": new_id(),
            "difference": stock.quantity - before,
            "request_id": request_id,
        }
        tx.exec_driver_sql(statements.SET_STOCK, parameters)

    def _shortages(self, tx: Transaction, order: Order, taken: frozenset[str]) -> tuple[Shortage, ...]:
        short = {item.product_id: item.quantity for item in order.items if item.product_id not in taken}
        stock = self.stock(tx, list(short))
        return tuple(
            Shortage(product_id, wanted, stock[product_id].quantity if product_id in stock else 0)
            for product_id, wanted in short.items()
        )

    def _one(self, tx: Transaction, statement: str, order_id: str, *, owner: str) -> Order | None:
        orders = self._with_items(tx, tx.exec_driver_sql(statement, {"id": order_id, "owner": owner}).all())
        return orders[0] if orders else None

    def _with_items(self, tx: Transaction, heads: Sequence[Any]) -> list[Order]:
        if not heads:
            return []
        items: dict[str, list[Item]] = defaultdict(list)
        for row in tx.exec_driver_sql(statements.ITEMS, {"ids": [str(head.id) for head in heads]}):
            items[str(row.order_id)].append(
                Item(row.product_id, row.display_name, row.quantity, row.cancelled_quantity, row.unit_price_minor)
            )
        return [
            Order(
                id=str(head.id),
                user_id=head.user_id,
                currency=head.currency,
                items=tuple(items[str(head.id)]),
                total_minor=head.total_minor,
                state=State(head.state),
                revision=head.revision,
                create_time=head.create_time,
                update_time=head.update_time,
                region_code=head.region_code,
            )
            for head in heads
        ]


def _placement_parameters(order: Order, key: Key, answer: bytes, event: Event) -> dict[str, object]:
    by_product = sorted(enumerate(order.items), key=lambda entry: entry[1].product_id)
    return {
        "principal": key.principal,
        "method": key.method,
        "request_id": key.request_id,
        "body_hash": key.body_hash,
        "answer": answer,
        "order_id": order.id,
        "user_id": order.user_id,
        "currency": order.currency,
        "total_minor": order.total_minor,
        "state": order.state.value,
        "revision": order.revision,
        "now": order.create_time,
        "region_code": order.region_code,
        "product_ids": [item.product_id for _, item in by_product],
        "positions": [position for position, _ in by_product],
        "display_names": [item.display_name for _, item in by_product],
        "quantities": [item.quantity for _, item in by_product],
        "prices": [item.unit_price_minor for _, item in by_product],
        "event_id": event.id,
        "event_type": event.type,
        "event_key": event.key,
        "envelope": event.envelope,
        "traceparent": event.traceparent,
    }
