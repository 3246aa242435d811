"""What the catalog does, one function for each RPC, and the ports it needs for that.

`rpc` calls these with plain values; `wiring` gives the ports. Invariants: a change and its event commit together; only
a snapshot taken inside the cache's own load is kept there. What a change makes outdated is said in the contract.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from svc.catalog import events
from svc.catalog.model import (
    MUTABLE_FIELDS,
    PRODUCTS_PREFIX,
    Change,
    Order,
    Position,
    Price,
    Product,
    like_patterns,
)
from svc.chassis.cached_reads import cached
from svc.chassis.clock import Clock
from svc.chassis.consistency import Session
from svc.chassis.context import CallContext, Deadline
from svc.chassis.database import Transaction
from svc.chassis.errors import Aborted, AlreadyExists, InvalidArgument, NotFound
from svc.chassis.ids import new_id
from svc.chassis.outbox import Event

T = TypeVar("T")


class Transactions(Protocol):
    """Runs work in one SERIALIZABLE transaction, again as a whole where it conflicts; or as a read."""

    def serializable(
        self,
        work: Callable[[Transaction], T],
        *,
        deadline: Deadline,
        hot_keys: Sequence[str] = (),
        session: Session | None = None,
    ) -> T:
        """Run work until it commits."""
        ...

    def read(self, work: Callable[[Transaction], T], *, deadline: Deadline, session: Session | None = None) -> T:
        """Run work on one snapshot, as new as the session asks."""
        ...


class Products(Protocol):
    """Keeps products."""

    def insert(self, tx: Transaction, product: Product) -> bool:
        """Insert; False where the id is taken."""
        ...

    def get(self, tx: Transaction, product_id: str) -> Product | None:
        """The product with an id."""
        ...

    def get_many(self, tx: Transaction, product_ids: Sequence[str]) -> Sequence[Product]:
        """Those of the products that exist, in no order."""
        ...

    def page(self, tx: Transaction, query: "Query") -> Sequence[Product]:
        """Products that match, in order, from a position on."""
        ...

    def update(self, tx: Transaction, product: Product) -> None:
        """Store everything of an existing product but the create time."""
        ...

    def delete(self, tx: Transaction, product_id: str) -> None:
        """Delete a product."""
        ...


class ProductCache(Protocol):
    """Keeps products for a while; trouble with it is a miss."""

    def get_or_load(self, call: CallContext, load: Callable[[], Product], *, max_age_s: float) -> Product:
        """The product kept under the call's key and no older, or what `load` returns, which is then kept."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Everything outside of the use cases."""

    transactions: Transactions
    products: Products
    cache: ProductCache
    append: Callable[[Transaction, Sequence[Event]], None]
    clock: Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which products to list: those whose name matches every LIKE pattern, from behind a position on."""

    patterns: tuple[str, ...]
    order: Order
    after: Position | None
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """New values of a product; `fields` names those that count, none: all. An empty etag matches any."""

    product_id: str
    display_name: str
    price: Price | None
    etag: str
    fields: Sequence[str]


def create_product(ports: Ports, product_id: str, *, display_name: str, price: Price, call: CallContext) -> Product:
    """Create a product; an empty id asks for a random one."""
    _refuse_blank(display_name)
    now = ports.clock.now()
    product = Product(product_id or new_id(), display_name, price, _new_etag(), now, now)

    def work(tx: Transaction) -> bool:
        inserted = ports.products.insert(tx, product)
        if inserted:
            ports.append(tx, [events.product_changed(product, Change.CREATED, call=call)])
        return inserted

    if not ports.transactions.serializable(work, deadline=call.deadline, session=call.session):
        raise AlreadyExists(
            f"{product.name} exists already.", resource=("product", product.name), reason="PRODUCT_EXISTS"
        )
    return product


def get_product(ports: Ports, product_id: str, *, call: CallContext) -> Product:
    """Read one product: from the cache, or from the database into the cache; whatever the contract allows."""

    def read(deadline: Deadline, session: Session | None) -> Product:
        return ports.transactions.read(lambda tx: _existing(ports, tx, product_id), deadline=deadline, session=session)

    return cached(ports.cache, call, read)


def batch_get_products(ports: Ports, product_ids: Sequence[str], *, call: CallContext) -> Sequence[Product]:
    """Read many products in the order asked for; the first that does not exist is named.

    From the database: prices that an order is made of are never older than the call.
    """
    distinct = list(dict.fromkeys(product_ids))
    found = ports.transactions.read(
        lambda tx: ports.products.get_many(tx, distinct), deadline=call.deadline, session=call.session
    )
    by_id = {product.id: product for product in found}
    for product_id in distinct:
        if product_id not in by_id:
            raise _no_product(product_id)
    return [by_id[product_id] for product_id in product_ids]


def list_products(
    ports: Ports, words: str, *, order: Order, after: Position | None, limit: int, call: CallContext
) -> Sequence[Product]:
    """List the products whose name contains every one of the words, at most `limit` behind a position."""
    query = Query(patterns=like_patterns(words), order=order, after=after, limit=limit)
    return ports.transactions.read(
        lambda tx: ports.products.page(tx, query), deadline=call.deadline, session=call.session
    )


def update_product(ports: Ports, update: Update, *, call: CallContext) -> Product:
    """Change the named fields of a product where its etag is still the one given."""
    fields = _fields(update.fields)
    if "display_name" in fields:
        _refuse_blank(update.display_name)

    def work(tx: Transaction) -> Product:
        product = _existing(ports, tx, update.product_id)
        if update.etag and update.etag != product.etag:
            raise Aborted(
                f"{product.name} was changed meanwhile: read it again.",
                reason="ETAG_MISMATCH",
                metadata={"product": product.name},
            )
        changed = replace(
            product,
            display_name=update.display_name if "display_name" in fields else product.display_name,
            price=update.price if "price" in fields and update.price is not None else product.price,
        )
        if changed == product:
            return product
        changed = replace(changed, etag=_new_etag(), update_time=ports.clock.now())
        ports.products.update(tx, changed)
        ports.append(tx, [events.product_changed(changed, Change.UPDATED, call=call)])
        return changed

    return ports.transactions.serializable(work, deadline=call.deadline, session=call.session)


def delete_product(ports: Ports, product_id: str, *, call: CallContext) -> None:
    """Delete a product. Orders hold their own copy of its name and price."""

    def work(tx: Transaction) -> None:
        product = _existing(ports, tx, product_id)
        ports.products.delete(tx, product_id)
        ports.append(tx, [events.product_changed(product, Change.DELETED, call=call)])

    ports.transactions.serializable(work, deadline=call.deadline, session=call.session)


def _fields(paths: Sequence[str]) -> frozenset[str]:
    for path in paths:
        if path not in (*MUTABLE_FIELDS, "*"):
            raise InvalidArgument(
                f"`{path}` cannot be changed.",
                reason="FIELD_IMMUTABLE",
                violations=[("update_mask", f"`{path}` is not one of: {', '.join(MUTABLE_FIELDS)}")],
            )
    return frozenset(MUTABLE_FIELDS if not paths or "*" in paths else paths)


def _refuse_blank(display_name: str) -> None:
    if not display_name.strip():
        raise InvalidArgument(
            "A product needs a name.", violations=[("product.display_name", "must not be empty or blank")]
        )


def _existing(ports: Ports, tx: Transaction, product_id: str) -> Product:
    product = ports.products.get(tx, product_id)
    if product is None:
        raise _no_product(product_id)
    return product


def _no_product(product_id: str) -> NotFound:
    name = PRODUCTS_PREFIX + product_id
    return NotFound(f"There is no {name}.", resource=("product", name), reason="PRODUCT_NOT_FOUND")


def _new_etag() -> str:
    # Random: a product deleted and created again must not have an etag that somebody still holds.
    return secrets.token_hex(8)
