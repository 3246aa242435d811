"""Who locks what before a transaction begins, on either database."""

from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.hot_keys import IN_FLIGHT_MS, Locks, RowLock, lock, plan, row


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_every_process_takes_the_same_locks_in_the_same_order(keys: list[str]) -> None:
    ids = plan("postgresql", keys).ids

    assert ids == plan("postgresql", keys[::-1] + keys).ids
    assert sorted(ids) == list(ids)
    assert len(set(keys)) == len(ids)
    assert all(-(2**63) <= lock_id < 2**63 for lock_id in ids)


def test_a_wait_for_hot_keys_is_bounded_and_ends_its_transaction() -> None:
    statements = lock(Locks(ids=(-1, 2)), wait_ms=750)

    assert "SET LOCAL statement_timeout = 750" in statements
    assert "ARRAY[-1,2]::bigint[]" in statements
    assert statements.endswith("COMMIT; ")


def test_the_call_s_own_lock_is_waited_for_first_and_only_for_a_moment() -> None:
    locks = plan("postgresql", ["a"], once="ann PlaceOrder 1")
    statements = lock(locks, wait_ms=4000)

    assert locks.once not in locks.ids
    assert f"SET LOCAL lock_timeout = {IN_FLIGHT_MS}; SELECT pg_advisory_lock({locks.once});" in statements
    assert statements.index(str(locks.once)) < statements.index(f"ARRAY[{locks.ids[0]}]")
    assert f"SET LOCAL lock_timeout = 100; SELECT pg_advisory_lock({locks.once});" in lock(locks, wait_ms=100)


def test_nothing_to_lock_is_nothing_to_send() -> None:
    assert "" == lock(plan("postgresql", []), wait_ms=750)
    assert not plan("postgresql", []).advisory


def test_on_cockroachdb_the_rows_that_keys_name_are_locked_in_the_order_of_their_ids() -> None:
    keys = [row("stock", "product_id", each) for each in ("mug", "cup", "mug")]

    locks = plan("cockroachdb", [*keys, "audit_head"], once="ann PlaceOrder 1")

    statement = "SELECT 1 FROM stock WHERE product_id = ANY(%s::text[]) ORDER BY product_id FOR UPDATE"
    assert (RowLock(statement, ["cup", "mug"]),) == locks.rows
    assert not locks.advisory
    assert "" == lock(locks, wait_ms=750)
