"""Memcached's meta commands as a small machine, and a scheduler that runs actors in every order a seed can think of.

The machine takes the place of the pool below a real node of the cache, so that everything above it is the real thing;
`test_cache_races` holds it to a real Memcached command by command.
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from svc.chassis.cache.wire import Answer, Incarnation

T = TypeVar("T")

WAIT_S = 30.0


class Schedule:
    """Runs actors one at a time. Each goes from step to step, and at each the seed says who goes on."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # Whoever is left standing for long is overtaken by much: most races need that more than they need finesse.
        self._goes_on = self.chance.choice((0.0, 0.6, 0.9))
        self._turns: dict[int, threading.Semaphore] = {}
        self._back = threading.Semaphore(0)

    def step(self) -> None:
        """Let others go first, perhaps. Means nothing to a thread that is no actor."""
        turn = self._turns.get(threading.get_ident())
        if turn is not None:
            self._back.release()
            assert turn.acquire(timeout=WAIT_S)

    def run(self, actors: Sequence[Callable[[], None]]) -> None:
        """Returns when all have ended; raises what one of them raised."""
        raised: list[BaseException] = []
        waiting: list[tuple[threading.Thread, threading.Semaphore]] = []

        def live(actor: Callable[[], None], turn: threading.Semaphore) -> None:
            self._turns[threading.get_ident()] = turn
            self._back.release()
            assert turn.acquire(timeout=WAIT_S)
            try:
                actor()
            except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the test's own thread
                raised.append(error)
            finally:
                del self._turns[threading.get_ident()]
                self._back.release()

        for actor in actors:
            turn = threading.Semaphore(0)
            thread = threading.Thread(target=live, args=(actor, turn), daemon=True)
            thread.start()
            assert self._back.acquire(timeout=WAIT_S)
            waiting.append((thread, turn))
        chosen = None
        while waiting:
            if chosen not in waiting or self.chance.random() >= self._goes_on:
                chosen = self.chance.choice(waiting)
            thread, turn = chosen
            turn.release()
            assert self._back.acquire(timeout=WAIT_S)
            if thread.ident not in self._turns:
                thread.join(WAIT_S)
                waiting.remove(chosen)
        if raised:
            raise raised[0]


@dataclass
class Item:
    value: bytes
    cas: int
    token_sent: bool


@dataclass
class Machine:
    """One Memcached. Time stands still: nothing expires."""

    items: dict[str, Item] = field(default_factory=dict)
    last_cas: int = 0
    starts: int = 1
    away: bool = False

    def restart(self) -> None:
        self.items.clear()
        self.last_cas = 0
        self.starts += 1

    def flush(self) -> None:
        self.items.clear()

    def do(self, request: bytes) -> list[Answer]:
        """Everything in one message of commands."""
        answers, rest = [], request
        while rest:
            line, rest = rest.split(b"\r\n", 1)
            verb, *words = line.split(b" ")
            if verb == b"ms":
                size = int(words[1])
                value, rest = rest[:size], rest[size + 2 :]
                answers.append(self._set(words[0].decode(), words[2:], value))
            elif verb == b"mg":
                answers.append(self._get(words[0].decode(), words[1:]))
            elif verb == b"md":
                answers.append(self._delete(words[0].decode(), words[1:]))
            else:
                answers.append(Answer(b"MN"))
        return answers

    def _cas(self) -> int:
        self.last_cas += 1
        return self.last_cas

    def _get(self, key: str, flags: Sequence[bytes]) -> Answer:
        item, vivify = self.items.get(key), any(flag[:1] == b"N" for flag in flags)
        if item is None:
            if not vivify:
                return Answer(b"EN")
            item = self.items[key] = Item(b"", self._cas(), True)
            return Answer(b"VA", (b"c%d" % item.cas, b"t-1", b"W"), b"")
        marks = (b"Z",) if item.token_sent and not item.value else ()
        return Answer(b"VA", (b"c%d" % item.cas, b"t30", *marks), item.value)

    def _set(self, key: str, flags: Sequence[bytes], value: bytes) -> Answer:
        wanted, item = _cas_of(flags), self.items.get(key)
        if wanted is not None:
            if item is None:
                return Answer(b"NF")
            if item.cas != wanted:
                return Answer(b"EX")
        self.items[key] = Item(value, self._cas(), False)
        return Answer(b"HD")

    def _delete(self, key: str, flags: Sequence[bytes]) -> Answer:
        wanted, item = _cas_of(flags), self.items.get(key)
        if item is None:
            return Answer(b"NF")
        if wanted is not None and item.cas != wanted:
            return Answer(b"EX")
        del self.items[key]
        return Answer(b"HD")


def _cas_of(flags: Sequence[bytes]) -> int | None:
    return next((int(flag[1:]) for flag in flags if flag[:1] == b"C"), None)


class Wire:
    """The pool of one process to a machine. Steps lie before a message arrives and before its answer does."""

    def __init__(self, machine: Machine, schedule: Schedule) -> None:
        self._machine = machine
        self._schedule = schedule

    @contextmanager
    def connection(self) -> Iterator["Wire"]:
        yield self

    @property
    def incarnation(self) -> Incarnation:
        return (1, self._machine.starts)

    def meta(self, request: bytes, answers: int = 1) -> list[Answer]:
        return self._exchange(lambda: self._machine.do(request))

    def flush_all(self, *, noreply: bool) -> bool:
        return self._exchange(lambda: self._machine.flush() is None)

    def _exchange(self, work: Callable[[], T]) -> T:
        self._schedule.step()
        # A machine that is away either has not got the message, or its answer is lost.
        if self._machine.away and self._schedule.chance.random() < 0.5:
            raise TimeoutError
        result = work()
        self._schedule.step()
        if self._machine.away:
            raise TimeoutError
        return result

    def close(self) -> None:
        """Nothing to close."""
