"""Upkeep goes on after a failed step, and ends when it is told to."""

import threading
from datetime import timedelta

import pytest

from svc.chassis.context import Deadline
from svc.chassis.errors import Unavailable
from svc.identity import upkeep
from svc.identity.model import (
    ACCESS_TOKEN_LIFETIME,
    FAILURES_WINDOW,
    SESSION_LIFETIME,
    RefreshToken,
    SessionRecord,
    SignInFailures,
)
from svc.identity.upkeep import Upkeep
from tests.fakes.clock import START, FakeClock
from tests.fakes.identity import FakeFailures, FakeSessions, FakeTransactions, Memory


class FlakyRing:
    """Fails at first, once in each way."""

    def __init__(self) -> None:
        self.failures: list[Exception] = [Unavailable("no database"), RuntimeError("a defect")]
        self.refreshed = threading.Event()

    def refresh(self, *, deadline: Deadline) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.refreshed.set()


def make_upkeep(memory: Memory, ring: FlakyRing, clock: FakeClock) -> Upkeep:
    return Upkeep(
        ring,
        sessions=FakeSessions(memory),
        failures=FakeFailures(memory),
        transactions=FakeTransactions(memory),
        clock=clock,
    )


def test_keys_are_followed_on_after_a_database_that_was_away_and_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "KEYS_EVERY_S", 0.001)
    ring = FlakyRing()
    kept = make_upkeep(Memory(), ring, FakeClock())

    kept.start()
    refreshed = ring.refreshed.wait(10)
    kept.stop()

    assert refreshed
    assert not kept._thread.is_alive()


@pytest.mark.parametrize(("batches", "left"), [(1, ["s3"]), (2, [])])
def test_ended_sessions_are_forgotten_with_their_tokens_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch, batches: int, left: list[str]
) -> None:
    monkeypatch.setattr(upkeep, "BATCH", 2)
    monkeypatch.setattr(upkeep, "BATCHES_MAX", batches)
    memory, clock = Memory(), FakeClock()
    for name, after_s in (("s3", 3), ("s1", 1), ("s2", 2)):
        begin = START + timedelta(seconds=after_s)
        memory.sessions[name] = SessionRecord(name, "ann", None, (), begin, begin + SESSION_LIFETIME)
        memory.tokens[name.encode()] = RefreshToken(name.encode(), name)
    clock.move(SESSION_LIFETIME + timedelta(days=1))

    make_upkeep(memory, FlakyRing(), clock).delete_sessions()

    assert left == list(memory.sessions) == [token.session_id for token in memory.tokens.values()]


def test_open_sessions_are_kept() -> None:
    memory = Memory()
    memory.sessions["s"] = SessionRecord("s", "ann", None, (), START, START + SESSION_LIFETIME)

    make_upkeep(memory, FlakyRing(), FakeClock()).delete_sessions()

    assert ["s"] == list(memory.sessions)


def test_a_session_is_kept_as_long_as_a_token_of_it_could_be_revoked() -> None:
    memory, clock = Memory(), FakeClock()
    memory.sessions["s"] = SessionRecord("s", "ann", None, (), START, START + SESSION_LIFETIME)
    clock.move(SESSION_LIFETIME + ACCESS_TOKEN_LIFETIME)

    make_upkeep(memory, FlakyRing(), clock).delete_sessions()

    assert ["s"] == list(memory.sessions)


def test_failures_to_sign_in_are_forgotten_once_they_no_longer_count() -> None:
    memory, clock = Memory(), FakeClock()
    for digest, lives in ((b"old", FAILURES_WINDOW), (b"new", 2 * FAILURES_WINDOW)):
        memory.failures[digest] = SignInFailures(digest, 1, START + lives)
    clock.move(FAILURES_WINDOW)

    make_upkeep(memory, FlakyRing(), clock).delete_failures()

    assert [b"new"] == list(memory.failures)
