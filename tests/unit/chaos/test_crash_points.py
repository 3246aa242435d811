"""A process dies between two steps of the request or the event path, and everything is as if it had not, or had."""

from collections.abc import Callable, Sequence

import pytest

from svc.chassis.crash import Point
from tests.unit.chaos.acts import (
    Act,
    cancel_order,
    garbage,
    open_shop,
    place_order,
    quote,
    relay,
    reprice,
    work,
)
from tests.unit.chaos.small_mesh import SmallMesh

USERS = tuple(f"u-{number}" for number in range(10))
OPEN: Act = (open_shop, [{"mug": 50, "tea": 50}, USERS])
RELAY: Act = (relay, ["orders"])
CATALOG: Act = (relay, ["catalog"])
AUDIT, ANALYTICS, EMAIL = WORKERS = [(work, [name]) for name in ("audit", "analytics", "email")]
QUOTE: Act = (quote, [])

_REQUEST = (
    Point.CALL_ENTERED,
    Point.TRANSACTION_DUE,
    Point.TRANSACTION_BEGUN,
    Point.EFFECT_WRITTEN,
    Point.EVENTS_WRITTEN,
    Point.WORK_DONE,
    Point.COMMITTED,
)
_EVENT = (Point.TRANSACTION_DUE, Point.TRANSACTION_BEGUN, Point.INBOX_CLAIMED, Point.WORK_DONE, Point.COMMITTED)
_LOOP = (Point.BATCH_TAKEN, Point.BATCH_HANDLED, Point.BATCH_ACKNOWLEDGED)
_READ = (Point.LEASE_TAKEN, Point.ENTRY_LOADED, Point.ENTRY_FILLED)
_RELAY = (Point.ROWS_CLAIMED, Point.ROWS_CONFIRMED, Point.ROWS_MARKED, Point.ROWS_PUBLISHED)
_MAIL = (Point.COMMITTED, Point.MAIL_RESERVED, Point.MAIL_SENT)


def place(number: int) -> Act:
    return place_order, [USERS[number], f"11111111-1111-4111-8111-{number:012}", {"mug": 2, "tea": 1}]


def cancel(number: int) -> Act:
    return cancel_order, [USERS[number], f"22222222-2222-4222-8222-{number:012}", {"mug": 1}]


def price(number: int) -> Act:
    return reprice, [200 + number]


Life = Callable[[int], Sequence[Act]]
#: What a process does, the last of which it dies of at each of these points in turn.
LIVES: dict[str, tuple[Life, Sequence[Point]]] = {
    "place": (lambda number: [place(number)], _REQUEST),
    "cancel": (lambda number: [place(number), cancel(number)], _REQUEST[3:]),
    "reprice": (lambda number: [QUOTE, price(number)], (Point.EFFECT_WRITTEN, Point.COMMITTED, Point.FORGOTTEN)),
    "quote": (lambda number: [price(number), QUOTE], _READ),
    "relay": (lambda number: [place(number), RELAY], _RELAY),
    "relay-forgets": (lambda number: [QUOTE, price(number), CATALOG], [Point.FORGOTTEN]),
    "audit": (lambda number: [place(number), RELAY, AUDIT], (*_EVENT, *_LOOP)),
    "analytics": (lambda number: [place(number), RELAY, ANALYTICS], (Point.INBOX_CLAIMED, Point.COMMITTED)),
    "email": (lambda number: [place(number), RELAY, EMAIL], (*_MAIL, Point.BATCH_HANDLED)),
}
#: Points that only a whole mesh has, or whose own test is elsewhere (`tests/integration`).
ELSEWHERE = frozenset(
    {Point.CALL_ANSWERED, Point.CONFIRM_RECEIVED, Point.COPY_CONFIRMED}
    | {point for point in Point if point.startswith(("file", "report", "part"))}
)


@pytest.fixture
def mesh(small: SmallMesh) -> SmallMesh:
    small.fresh()
    assert 0 == small.run(OPEN)
    return small


def test_without_a_death_nothing_is_wrong(mesh: SmallMesh) -> None:
    assert 0 == mesh.run(place(0), cancel(0), price(0), QUOTE, RELAY, CATALOG, *WORKERS, QUOTE)

    assert {} == mesh.broken()
    books = mesh.books()
    assert (1, 2, 2, 1, 1) == tuple(map(len, (books.orders, books.events, books.audited, books.mailed, books.cached)))


@pytest.mark.parametrize("name", LIVES)
def test_whoever_dies_between_two_steps_leaves_nothing_half_done(mesh: SmallMesh, name: str) -> None:
    life, points = LIVES[name]
    for number, point in enumerate(points):
        mesh.dies(point, *life(number))

    done = [act for number in range(len(points)) for act in (place(number), cancel(number))]
    assert 0 == mesh.run(*done, price(99), RELAY, CATALOG, *WORKERS, QUOTE)

    assert {} == mesh.broken()
    books, count = mesh.books(), len(points)
    assert [(2, 1)] * count == [(order.items["mug"], order.taken_back["mug"]) for order in books.orders.values()]
    assert {"mug": 50 - count, "tea": 50 - count} == books.stock
    assert (2 * count, 2 * count, count, count) == (
        *(len(books.events), len(books.audited), books.counted, len(set(books.mailed))),
    )


def test_what_was_put_aside_is_there_at_least_once_when_its_worker_dies_on_the_way(mesh: SmallMesh) -> None:
    mesh.dies(Point.COPY_CONFIRMED, place(0), RELAY, (garbage, ["weft.audit"]), AUDIT)
    assert 1 == mesh.dead("weft.audit")

    assert 0 == mesh.run(place(0), RELAY, *WORKERS)

    assert {} == mesh.broken()
    assert 2 == mesh.dead("weft.audit")


def test_every_point_of_these_paths_is_one_that_somebody_dies_at() -> None:
    assert set(Point) - ELSEWHERE == {point for _, points in LIVES.values() for point in points}
