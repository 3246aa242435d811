"""`weft check` on real servers: a mesh that is whole is found whole, and what is missing is named."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor import single
from deploy.supervisor.config import PROJECT
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from svc.chassis import inspection, migrate
from tests.integration.weft_command import weft
from tests.waiting import eventually

pytestmark = pytest.mark.calls

#: Alerts and scrapes also tell of what other tests do to the mesh.
WATCHED = "watching"


def checks(data: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    done = weft(data, "check", "--json", *arguments)
    return done.returncode, json.loads(done.stdout)["checks"]


def test_a_whole_mesh_is_found_whole(mesh: Mesh, operator: GatewayClient) -> None:
    mesh.wait_ready()
    seen: list[dict[str, Any]] = []

    def whole() -> bool:
        seen[:] = checks(mesh.secrets.parent)[1]
        return not any(one["state"] == "fail" and one["group"] != WATCHED for one in seen)

    eventually(whole, deadline_s=180.0)
    right = {(one["group"], one["name"]) for one in seen if one["state"] == "ok"}
    assert {
        ("processes", "ready"),
        ("registry", "leader of etcd"),
        ("registry", "endpoints and leases"),
        ("control planes", "snapshot"),
        ("control planes", "clients"),
        ("databases", "isolation"),
        ("databases", "migrations"),
        ("databases", "clock"),
        ("broker", "alarms"),
        ("broker", "consumers"),
        ("caches", "memcached"),
        ("edge", "gateway"),
        ("edge", "operator"),
        ("edge", "signing keys"),
        ("edge", "certificate"),
        ("watching", "traces"),
        ("watching", "mail"),
    } <= right


def test_people_are_told_in_lines(mesh: Mesh) -> None:
    done = weft(mesh.secrets.parent, "check")

    assert done.returncode in (0, 1)
    assert "this machine\n  ok    Python: 3." in done.stdout
    assert "isolation: serializable in all 6" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.fixture
def partial() -> Iterator[Path]:
    """A mesh of which only a cache runs."""
    with temporary() as folder, single.started(folder, "memcached-1"):
        yield folder


def test_what_is_missing_is_named_and_what_is_there_is_right(partial: Path) -> None:
    code, found = checks(partial)

    states = {(one["group"], one["name"]): one["state"] for one in found}
    assert 1 == code
    assert "ok" == states["caches", "memcached"]
    assert "fail" == states["registry", "etcd"]
    assert "fail" == states["databases", "identity"]
    assert "fail" == states["edge", "gateway"]
    assert [] == [one["name"] for one in found if one["state"] == "fail" and not one["hint"]]


def test_a_schema_behind_its_migrations_is_seen_and_transactions_are_serializable(
    postgres_url: Callable[[str], str],
) -> None:
    migrations = PROJECT / "svc" / "catalog" / "migrations"
    url = postgres_url("inspected")

    before = inspection.inspect("catalog", url, migrations)
    migrate.upgrade(url, str(migrations))
    after = inspection.inspect("catalog", url, migrations)

    assert ("", "") == (before.error, before.revision)
    assert "serializable" == after.isolation
    assert after.head == after.revision == before.head
    assert abs(after.clock_s) < 60.0


def test_a_database_that_is_away_is_a_state_of_its_own() -> None:
    state = inspection.inspect(
        "catalog", "postgresql+psycopg://nobody:x@127.0.0.1:1/none", PROJECT / "svc" / "catalog" / "migrations"
    )

    assert state.error
    assert "" == state.isolation
