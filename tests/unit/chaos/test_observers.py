"""Those who look on see what is there, on real stores, and what they see of a break is found at once."""

import io
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Process, Status
from tests.chaos import run
from tests.chaos.check import DURING, find
from tests.chaos.history import Books, Event, Operation, Recorder, operations
from tests.chaos.observers import Bookkeeper, CacheWatch, Lists
from tests.unit.chaos.acts import KEY, Act, open_shop, place_order, quote, reprice
from tests.unit.chaos.small_mesh import SmallMesh
from tests.waiting import eventually

OPEN: Act = (open_shop, [{"mug": 50}, ["ann"]])
PLACE: Act = (place_order, ["ann", "11111111-1111-4111-8111-111111111111", {"mug": 2}])


class Stage:
    """A small mesh as observers know a large one, and what they have seen of it."""

    def __init__(self, small: SmallMesh, folder: Path) -> None:
        self.small = small
        self.secrets = folder
        for name in ("orders", "catalog"):
            (folder / f"database-{name}.url").write_text(small.place.url.format(name))
        (folder / "cache.key").write_text(KEY.hex())
        self._out = io.StringIO()
        self.recorder = Recorder(self._out)
        self.mesh = cast(Mesh, self)

    def status(self) -> Status:
        host, port = self.small.place.memcached
        since = "2026-01-01T00:00:00Z"
        node = Process("memcached-1", "memcached", "memcached", 1, f"{host}:{port}", "ready", 0, since, "member")
        return Status("", {}, (node,))

    @property
    def history(self) -> list[Event]:
        return [Event(**json.loads(line)) for line in self._out.getvalue().splitlines()]

    def seen(self, name: str) -> list[Operation]:
        return operations(self.history, name)

    def broken(self, **books: Any) -> list[str]:
        nothing = Books(stock={}, orders={}, placed=[], events=[], audited=[], counted=0, mailed=[], **books)
        return list(find(self.history, nothing, DURING))


@pytest.fixture
def stage(small: SmallMesh, tmp_path: Path) -> Stage:
    small.fresh()
    assert 0 == small.run(OPEN, PLACE)
    return Stage(small, tmp_path)


@pytest.fixture
def bookkeeper(stage: Stage) -> Iterator[Bookkeeper]:
    opened = Bookkeeper(stage.mesh, stage.recorder, users=lambda: ["ann"], products=["mug"])
    yield opened
    opened.close()


def test_a_balance_names_what_is_there_and_what_came_and_went(stage: Stage, bookkeeper: Bookkeeper) -> None:
    (order,) = stage.small.books().orders
    bookkeeper.look()
    bookkeeper.look()
    stage.small.execute("orders", "DELETE FROM order_items; DELETE FROM orders; UPDATE stock SET quantity = 50")
    bookkeeper.look()

    sound = {"off": {}, "eventless": [], "orderless": []}
    assert [
        {**sound, "new": [order], "gone": []},
        {**sound, "new": [], "gone": []},
        {**sound, "new": [], "gone": [order], "orderless": [order]},
    ] == [look.said for look in stage.seen("balance")]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE stock SET quantity = quantity + 1", "stock_is_conserved_at_every_look"),
        ("DELETE FROM outbox", "order_and_event_are_there_together_at_every_look"),
        ("DELETE FROM orders", "what_was_acknowledged_is_there_at_every_look"),
    ],
)
def test_a_break_is_found_by_the_next_look(stage: Stage, bookkeeper: Bookkeeper, damage: str, found: str) -> None:
    (order,) = stage.small.books().orders
    stage.recorder.begin("place", customer="ann", key="k", items={"mug": 2}).ok(order=order)
    bookkeeper.look()
    assert [] == stage.broken()

    stage.small.execute("orders", damage)
    bookkeeper.look()

    assert found in stage.broken()


def test_lists_are_appended_to_by_many_at_once_and_are_serializable(stage: Stage) -> None:
    lists = Lists(stage.mesh, stage.recorder, run="1")

    def transact(number: int) -> None:
        chance = Random(number)
        for each in range(20):
            lists.transact(chance, number * 1000 + each * 10)

    with ThreadPoolExecutor(3) as threads:
        for future in [threads.submit(transact, number) for number in range(3)]:
            future.result(60)
    final = lists.all()
    lists.close()

    done = stage.seen("lists")
    assert 60 == len(done)
    assert sum(map(len, final.values())) == sum(
        step[0] == "append" for each in done if each.outcome == "ok" for step in each.said["steps"]
    )
    assert [] == stage.broken(lists=final)
    lost = {key: values[:-1] for key, values in final.items()}
    assert ["transactions_are_serializable"] == stage.broken(lists=lost)
    assert 0 == stage.small.number("orders", "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'chaos_lists%'")


def test_the_cache_is_seen_as_it_lies_in_its_nodes(stage: Stage) -> None:
    assert 0 == stage.small.run((quote, []))
    watch = CacheWatch(stage.mesh, stage.recorder, products=["products/lamp"])
    watch.look()
    before = watch.versions()["products/lamp"]
    assert 0 == stage.small.run((reprice, [300]), (quote, []))
    watch.look()
    versions, entries = watch.settled()
    watch.close()

    node = "{}:{}".format(*stage.small.place.memcached)
    after = versions["products/lamp"]
    assert before < after
    assert [[(node, "products/lamp", f"version {each}")] for each in (before, after)] == [
        [tuple(entry) for entry in look.said["entries"]] for look in stage.seen("cached")
    ]
    assert [(node, "products/lamp", f"version {after}")] == entries


def test_a_run_is_over_as_soon_as_something_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "JUDGE_EVERY_S", 0.01)
    path = tmp_path / "history.jsonl"
    with path.open("w") as file, run.Referee(path) as referee:
        recorder = Recorder(file)
        sound = {"new": [], "gone": [], "eventless": [], "orderless": []}
        recorder.begin("balance").ok(off={}, **sound)
        judged_until = time.monotonic() + 0.2
        eventually(lambda: time.monotonic() > judged_until)
        assert not referee.over.is_set()

        recorder.begin("balance").ok(off={"p-1": 1}, **sound)

        eventually(referee.over.is_set)
