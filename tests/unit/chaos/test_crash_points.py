"""A process dies between two steps of the request or the event path, and everything is as if it had not, or had."""

from collections.abc import Iterator

import pytest

from svc.chassis.crash import Point
from tests.unit.chaos import small_mesh
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

KEYS = [f"11111111-1111-4111-8111-{number:012}" for number in range(10)]
OPEN: Act = (open_shop, [{"mug": 50, "tea": 50}, "ann"])
PLACE: Act = (place_order, ["ann", KEYS[0], {"mug": 2, "tea": 1}])
CANCEL: Act = (cancel_order, ["ann", KEYS[1], {"mug": 1}])
REPRICE: Act = (reprice, [175])
QUOTE: Act = (quote, [])
RELAYS: list[Act] = [(relay, [name]) for name in ("orders", "catalog")]
WORKERS: list[Act] = [(work, [name]) for name in ("audit", "analytics", "email")]
EVERYTHING = [PLACE, CANCEL, REPRICE, QUOTE, *RELAYS, *WORKERS, QUOTE]

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
#: At which point who dies, of what, after what.
DEATHS: list[tuple[Point, Act, list[Act]]] = [
    *((point, PLACE, []) for point in _REQUEST),
    *((point, CANCEL, [PLACE]) for point in _REQUEST),
    *((point, REPRICE, [QUOTE]) for point in (*_REQUEST, Point.FORGOTTEN)),
    *((point, QUOTE, []) for point in (Point.LEASE_TAKEN, Point.ENTRY_LOADED, Point.ENTRY_FILLED)),
    *(
        (point, RELAYS[0], [PLACE, CANCEL])
        for point in (Point.ROWS_CLAIMED, Point.ROWS_CONFIRMED, Point.ROWS_MARKED, Point.ROWS_PUBLISHED)
    ),
    (Point.FORGOTTEN, RELAYS[1], [QUOTE, REPRICE]),
    *((point, worker, [PLACE, CANCEL, RELAYS[0]]) for worker in WORKERS[:2] for point in (*_EVENT, *_LOOP)),
    *(
        (point, WORKERS[2], [PLACE, CANCEL, RELAYS[0]])
        for point in (Point.TRANSACTION_BEGUN, Point.COMMITTED, Point.MAIL_RESERVED, Point.MAIL_SENT, *_LOOP)
    ),
]


@pytest.fixture(scope="module")
def started() -> Iterator[SmallMesh]:
    with small_mesh.started() as running:
        yield running


@pytest.fixture
def mesh(started: SmallMesh) -> SmallMesh:
    started.fresh()
    assert 0 == started.run(OPEN)
    return started


def test_without_a_death_nothing_is_wrong(mesh: SmallMesh) -> None:
    assert 0 == mesh.run(*EVERYTHING)

    assert {} == mesh.broken()
    books = mesh.books()
    assert (1, 2, 2, 1, 1) == tuple(map(len, (books.orders, books.events, books.audited, books.mailed, books.cached)))


def named(value: object) -> str | None:
    if isinstance(value, Point):
        return value
    return f"{value[0].__name__}-{value[1][0]}" if isinstance(value, tuple) and value[1] else ""


@pytest.mark.parametrize(("point", "act", "before"), DEATHS, ids=named)
def test_whoever_dies_between_two_steps_leaves_nothing_half_done(
    mesh: SmallMesh, point: Point, act: Act, before: list[Act]
) -> None:
    assert 0 == mesh.run(*before)
    mesh.dies(point, act)

    assert 0 == mesh.run(*EVERYTHING)

    assert {} == mesh.broken()
    books = mesh.books()
    assert ([(2, 1)], {"mug": 49, "tea": 49}) == (
        [(order.items["mug"], order.taken_back["mug"]) for order in books.orders.values()],
        books.stock,
    )
    assert (2, 2, 1, 1) == (len(books.events), len(books.audited), books.counted, len(set(books.mailed)))


def test_what_was_put_aside_is_there_at_least_once_when_its_worker_dies_on_the_way(mesh: SmallMesh) -> None:
    assert 0 == mesh.run(PLACE, RELAYS[0], (garbage, ["weft.audit"]))
    mesh.dies(Point.COPY_CONFIRMED, WORKERS[0])
    assert 1 == mesh.dead("weft.audit")

    assert 0 == mesh.run(*EVERYTHING)

    assert {} == mesh.broken()
    assert 2 == mesh.dead("weft.audit")
