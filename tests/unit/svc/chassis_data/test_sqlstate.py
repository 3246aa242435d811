import random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from svc.chassis.hot_keys import lock, lock_ids
from svc.chassis.sqlstate import Failure, backoff, classify


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("40001", Failure.CONFLICT),
        ("40P01", Failure.CONFLICT),
        ("40003", Failure.LOST),
        ("08006", Failure.LOST),
        ("57P01", Failure.LOST),
        ("57P03", Failure.REFUSED),
        ("53300", Failure.REFUSED),
        ("53100", Failure.REFUSED),
        ("55P03", Failure.LOCKED),
        ("57014", Failure.TIMEOUT),
        ("23505", Failure.OURS),
        ("42601", Failure.OURS),
    ],
)
def test_a_code_decides_bare_or_wrapped(code: str, expected: Failure) -> None:
    error = type("Failed", (psycopg.Error,), {"sqlstate": code})("text")

    assert expected is classify(error)
    assert expected is classify(DBAPIError("SELECT 1", {}, error))


def test_an_operational_error_without_a_code_is_a_lost_connection() -> None:
    assert Failure.LOST is classify(psycopg.OperationalError("consuming input failed"))


@pytest.mark.parametrize("error", [psycopg.ProgrammingError("x"), errors.SyntaxError("x"), ValueError("x")])
def test_a_mistake_is_ours(error: Exception) -> None:
    assert Failure.OURS is classify(error)


@given(st.integers(1, 50), st.integers())
def test_a_wait_grows_with_the_attempt_and_has_an_upper_bound(attempt: int, seed: int) -> None:
    wait_s = backoff(attempt, random.Random(seed))

    assert 0 <= wait_s <= min(0.080, 0.005 * 2 ** (attempt - 1))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_process_takes_the_same_locks_in_the_same_order(keys: list[str]) -> None:
    ids = lock_ids("postgresql", keys)

    assert ids == lock_ids("postgresql", keys[::-1] + keys)
    assert sorted(ids) == list(ids)
    assert len(set(keys)) == len(ids)
    assert all(-(2**63) <= lock_id < 2**63 for lock_id in ids)


def test_cockroachdb_has_no_advisory_locks() -> None:
    assert () == lock_ids("cockroachdb", ["stock/1"])


def test_a_wait_for_locks_is_bounded_and_ends_its_transaction() -> None:
    statements = lock([-1, 2], wait_ms=750)

    assert "SET LOCAL lock_timeout = 750" in statements
    assert "ARRAY[-1,2]::bigint[]" in statements
    assert statements.endswith("COMMIT; ")
