"""A copy of a database that nobody is connected to: what tests that each need a migrated one begin with."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.supervisor.servers import postgres
from tests import postgres_pair
from tests.postgres_pair import PostgresServer

OWNER = postgres.Owner("shop_1", "not-a-secret")


@pytest.fixture
def server(folder: Path) -> Iterator[PostgresServer]:
    with postgres_pair.leader(folder) as started:
        yield started


def owned(server: PostgresServer, name: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(host="127.0.0.1", port=server.port, user=OWNER.name, dbname=name, autocommit=True)


def test_a_copy_has_the_rows_and_the_owner_of_its_model_and_goes_its_own_way(server: PostgresServer) -> None:
    asyncio.run(postgres.ensure_databases([server.port], "", [OWNER]))
    with owned(server, OWNER.name) as model:
        model.execute("CREATE TABLE stock (product text PRIMARY KEY)")
        model.execute("INSERT INTO stock VALUES ('mug')")

    for name in ("shop_2", "shop_3"):
        postgres.copy_database(server.port, "", of=OWNER.name, to=name)

    with owned(server, "shop_2") as copy:
        copy.execute("ALTER TABLE stock ADD COLUMN quantity int")
        copy.execute("INSERT INTO stock VALUES ('cup', 1)")
    with owned(server, "shop_3") as copy, owned(server, OWNER.name) as model:
        assert [[("mug",)]] * 2 == [one.execute("SELECT * FROM stock").fetchall() for one in (copy, model)]
        granted = copy.execute("SELECT has_database_privilege('public', 'shop_3', 'CONNECT')").fetchone()
        assert (False,) == granted
