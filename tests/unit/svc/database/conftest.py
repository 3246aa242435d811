"""One PostgreSQL of these tests' own, with a standby; CockroachDB as well where WEFT_TEST_COCKROACH_URL names one."""

import os
from collections.abc import Iterator

import pytest

from deploy.supervisor.workspace import temporary
from tests import postgres_pair
from tests.postgres_pair import PostgresServer


@pytest.fixture(scope="module")
def leader() -> Iterator[PostgresServer]:
    with temporary() as folder, postgres_pair.leader(folder) as server:
        yield server


@pytest.fixture(scope="module")
def standby(leader: PostgresServer) -> Iterator[PostgresServer]:
    with temporary() as folder, postgres_pair.standby(folder, leader) as server:
        yield server


@pytest.fixture(scope="module", params=["postgres", "cockroach"])
def url(request: pytest.FixtureRequest) -> str:
    """Of an empty database, on each kind of server there is."""
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("leader")
        return server.url()
    address = os.environ.get("WEFT_TEST_COCKROACH_URL", "")
    if not address:
        pytest.skip("WEFT_TEST_COCKROACH_URL names no CockroachDB")
    return address
