"""Deadlines, the caller of a call, the shape of an error."""

import uuid
from datetime import UTC, timedelta

import pytest

from svc.chassis import errors
from svc.chassis.clock import SystemClock
from svc.chassis.context import CallContext, Deadline, Principal
from svc.chassis.ids import new_id


def test_a_deadline_runs_out() -> None:
    assert 9 < Deadline.after(10).remaining() <= 10
    assert not Deadline.after(10).expired()

    past = Deadline.after(-1)
    assert (0.0, True) == (past.remaining(), past.expired())


def test_a_reserve_makes_a_deadline_earlier() -> None:
    deadline = Deadline.after(1)

    assert deadline.less(2).expired()
    assert not deadline.expired()


def test_a_call_without_a_principal_has_no_caller() -> None:
    call = CallContext("/a.B/C", None, Deadline.after(1), b"", lambda: True)

    with pytest.raises(errors.Unauthenticated):
        _ = call.caller


def test_a_call_names_its_caller() -> None:
    principal = Principal("alice", frozenset(), "session-1", None, "secret")

    assert principal == CallContext("/a.B/C", principal, Deadline.after(1), b"", lambda: True).caller


def test_an_error_says_something_even_when_told_nothing() -> None:
    error = errors.NotFound()

    assert ("There is no such resource.", "NOT_FOUND", {}, None) == (
        error.message,
        error.reason,
        error.metadata,
        error.retry_after,
    )


def test_ids_are_random_uuids() -> None:
    assert 4 == uuid.UUID(new_id()).version
    assert new_id() != new_id()


def test_the_clock_tells_utc() -> None:
    assert (UTC, timedelta(0)) == (SystemClock().now().tzinfo, SystemClock().now().utcoffset())
