"""The prepared SQL names tables that others define: it must keep to their columns."""

import re

import pytest
from sqlalchemy import Table

from svc.chassis import tables
from svc.orders import statements


@pytest.mark.parametrize("table", [tables.idempotency, tables.outbox], ids=str)
def test_an_order_writes_the_columns_that_the_chassis_defines(table: Table) -> None:
    [columns] = re.findall(rf"INSERT INTO {table.name} \(([^)]*)\)", statements.PLACE_ORDER)
    written = {name.strip() for name in columns.split(",")}
    required = {
        column.name
        for column in table.columns
        if not column.nullable and column.server_default is None and column.identity is None
    }

    assert set() == written - set(table.columns.keys())
    assert set() == required - written


@pytest.mark.parametrize("statement", [statements.HOLD_STOCK, statements.SET_STOCK])
def test_setting_stock_only_inserts_so_that_it_leaves_no_mark_of_a_read(statement: str) -> None:
    words = re.sub(r"ON CONFLICT \(\w+\) DO UPDATE SET", "", statement).split()

    assert set() == {"SELECT", "UPDATE", "FROM"} & set(words)
