"""Readers, writers, crashes and failures of the cache in many orders: at the end it never holds what is not true.

Each race that a cache is known to lose is also planted, and must be found: a check that finds nothing proves nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svc.chassis.cache import entry, health, node
from svc.chassis.cache.entry import Codec
from svc.chassis.cache.store import Cache
from svc.chassis.cache.wire import Pool
from tests.memcached_process import MemcachedProcess
from tests.unit.svc.chassis_data.cache_model import Machine, Schedule, Wire
from tests.unit.svc.chassis_data.kept import KEY, METHOD, call, said

SEEDS = 250
FINDS_WITHIN = 250
NUMBERS: Codec[int] = Codec(lambda number: b"%d" % number, int, version=lambda number: number)


@pytest.fixture(autouse=True)
def _only_the_schedule_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the clock: followers load at once, no node rests, no thread pays debts."""
    monkeypatch.setattr(entry, "FOLLOW_S", 0.0)
    monkeypatch.setattr(health, "STRIKES", 10**9)
    monkeypatch.setattr(node.Node, "_collect", lambda self: None)


@dataclass(frozen=True)
class Rules:
    """How the world behaves; each default is right, each other value a planted bug."""

    lease_checked: bool = True
    fresh_snapshot: bool = True
    forgets_after_commit: bool = True
    debts_kept: bool = True
    relay: bool = True
    crashes: bool = True
    restarts: bool = True
    cuts: bool = True


class LooseWire(Wire):
    """Plants a fill that asks for no lease."""

    rules: Rules

    def meta(self, request: bytes, answers: int = 1) -> list:  # type: ignore[type-arg]
        if not self.rules.lease_checked and request.startswith(b"ms "):
            head, _, body = request.partition(b"\r\n")
            request = b" ".join(word for word in head.split(b" ") if word[:1] != b"C") + b"\r\n" + body
        return super().meta(request, answers)


class World:
    """One key, its row, its outbox, and a fleet of processes with a cache each."""

    def __init__(self, seed: int, rules: Rules) -> None:
        self.schedule = Schedule(seed)
        self.rules = rules
        self.machine = Machine()
        self.row = 1
        self.outbox = 0
        self.processes: list[Cache] = []
        self.dead: list[Cache] = []

    def process(self) -> Cache:
        cache = Cache([("127.0.0.1", 1)], key=KEY)
        wire = LooseWire(self.machine, self.schedule)
        wire.rules = self.rules
        for each in cache._nodes.values():
            each._pool = wire  # type: ignore[assignment]
        cache.open(said(), NUMBERS)
        self.processes.append(cache)
        return cache

    def read(self) -> int:
        self.schedule.step()
        seen = self.row
        self.schedule.step()
        return seen

    def reader(self) -> Callable[[], None]:
        cache = self.process()

        def live() -> None:
            for _ in range(2):
                before, old = self.row, self.read()
                load = self.read if self.rules.fresh_snapshot else lambda old=old: old
                got = cache._entries[METHOD].get_or_load(call(), load)
                assert got <= self.row
                # STRONG: whatever became of the cache.
                assert before <= cache._entries[METHOD].get_or_load(call(), self.read, max_age_s=0)

        return live

    def writer(self) -> Callable[[], None]:
        cache = self.process()

        def forget() -> None:
            if not cache.forget([METHOD], ["22423"]) and not self.rules.debts_kept:
                for each in cache._nodes.values():
                    each._owed.clear()

        def live() -> None:
            for _ in range(2):
                self.schedule.step()
                if not self.rules.forgets_after_commit:
                    forget()
                self.row += 1
                self.outbox += 1
                self.schedule.step()
                if self.rules.crashes and self.schedule.chance.random() < 0.3:
                    self.dead.append(cache)
                    return
                if self.rules.forgets_after_commit:
                    forget()

        return live

    def relay(self) -> None:
        """What is in the outbox leaves it."""
        cache = self.process()
        for _ in range(4):
            self.schedule.step()
            while self.outbox:
                self.outbox -= 1
                cache.forget([METHOD], ["22423"], everywhere=True)

    def trouble(self) -> None:
        chance = self.schedule.chance
        for _ in range(chance.randrange(4)):
            for _ in range(chance.randrange(8)):
                self.schedule.step()
            if self.rules.restarts and chance.random() < 0.5:
                self.machine.restart()
            elif self.rules.cuts:
                self.machine.away = True
                for _ in range(chance.randrange(12)):
                    self.schedule.step()
                self.machine.away = False

    def run(self) -> str:
        """What is wrong at the end; empty: nothing."""
        actors = [*(self.reader() for _ in range(3)), self.writer(), self.writer(), self.trouble]
        self.schedule.run([*actors, self.relay] if self.rules.relay else actors)
        if self.rules.relay and self.outbox:
            self.relay()
        for cache in self.processes:
            if cache not in self.dead:
                for each in cache._nodes.values():
                    each._pay()
        return observe(self)


def observe(world: World) -> str:
    """The independent observer: what lies in the machine, held against the row."""
    cache = world.process()
    for slot, item in world.machine.items.items():
        if item.value:
            kept = cache._entries[METHOD]._seal.open(slot, "", item.value)
            assert kept is not None, "a value that nobody wrote"
            if kept.version != world.row:
                return f"{slot} holds version {kept.version}, the row is at {world.row}"
    return ""


def test_in_no_order_of_things_does_the_cache_end_up_older_than_the_row() -> None:
    assert [] == [(seed, wrong) for seed in range(SEEDS) if (wrong := World(seed, Rules()).run())]


CALM = {"crashes": False, "restarts": False, "cuts": False, "relay": False}
PLANTED = {
    "a fill without a lease": Rules(**CALM, lease_checked=False),
    "a snapshot from before the lease": Rules(**CALM, fresh_snapshot=False),
    "forgotten before the commit": Rules(**CALM, forgets_after_commit=False),
    "a crash before it is forgotten": Rules(relay=False, restarts=False, cuts=False),
    "a debt that nobody keeps": Rules(relay=False, crashes=False, restarts=False, debts_kept=False),
}


@pytest.mark.parametrize("bug", PLANTED)
def test_each_race_that_is_planted_is_found(bug: str) -> None:
    assert any(World(seed, PLANTED[bug]).run() for seed in range(FINDS_WITHIN))


def test_without_a_crash_the_relay_is_not_needed() -> None:
    rules = Rules(relay=False, crashes=False)

    assert [] == [(seed, wrong) for seed in range(SEEDS) if (wrong := World(seed, rules).run())]


KEYS = st.sampled_from([b"a", b"b"])
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("get"), KEYS, st.none()),
        st.tuples(st.just("set"), KEYS, st.one_of(st.none(), st.integers(-2, 0))),
        st.tuples(st.just("delete"), KEYS, st.one_of(st.none(), st.integers(-2, 0))),
        st.tuples(st.just("flush"), KEYS, st.none()),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def pool() -> object:
    with MemcachedProcess() as server:
        found = Pool(server.address, answer_s=10.0)
        yield found
        found.close()


@settings(max_examples=150)
@given(COMMANDS)
def test_the_model_answers_as_memcached_does(pool: Pool, commands: list[tuple[str, bytes, int | None]]) -> None:
    machine = Machine()
    # The numbers differ, for a real one has counted before; which of those seen is meant is the same.
    seen: dict[str, list[int]] = {"model": [0, 0, 0], "real": [0, 0, 0]}

    def told(side: str, ask: Callable[[bytes], object]) -> list[tuple[bytes, bytes | None, bool, bool]]:
        found = []
        for verb, key, back in commands:
            lease = b"" if back is None else b" C%d" % seen[side][back - 1]
            request = {
                "get": b"mg %b v c t N30\r\n" % key,
                "set": b"ms %b 1 T30%b\r\nx\r\n" % (key, lease),
                "delete": b"md %b%b\r\n" % (key, lease),
                "flush": b"",
            }[verb]
            answer = ask(request)
            if verb == "get":
                seen[side].append(answer.number(b"c"))  # type: ignore[attr-defined]
            if answer is not None:
                found.append((answer.code, answer.value, b"W" in answer.flags, b"Z" in answer.flags))  # type: ignore[attr-defined]
        return found

    def real(request: bytes) -> object:
        with pool.connection() as connection:
            return connection.meta(request)[0] if request else connection.flush_all(noreply=False) and None

    real(b"")
    modelled = told("model", lambda request: machine.do(request)[0] if request else machine.flush())

    assert modelled == told("real", real)
