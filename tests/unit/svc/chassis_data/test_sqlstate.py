import random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors
from sqlalchemy.exc import DBAPIError

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
