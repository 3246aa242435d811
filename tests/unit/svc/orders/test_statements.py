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
