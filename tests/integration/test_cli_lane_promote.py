"""`weft lane promote`: the version of a lane becomes the stable one under load, and no caller sees an error."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.cli.lane_promotion import CODE
from deploy.cli.load.run import UnderLoad
from deploy.cli.load.traffic import Wanted
from deploy.supervisor.config import PROJECT
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests.integration.weft_command import weft

RPS = 20


@pytest.fixture(autouse=True)
def _whole(mesh: Mesh) -> Iterator[None]:
    mesh.wait_ready()
    yield
    for each in mesh.lanes():
        mesh.end_lane(each["name"])
    mesh.wait_ready()


@pytest.fixture
def clone() -> Iterator[Path]:
    """Another clone with the same code."""
    with temporary() as folder:
        for part in CODE:
            source, target = PROJECT / part, folder / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        yield folder


def pids(mesh: Mesh) -> dict[str, int | None]:
    return {process.name: process.pid for process in mesh.status().processes if process.service == "catalog"}


def test_a_lane_becomes_the_stable_version_under_load(mesh: Mesh, operator: GatewayClient, clone: Path) -> None:
    before = pids(mesh)
    with UnderLoad(mesh, Wanted(RPS)) as load:
        mesh.start_lane("next", LaneSpec(("catalog",), percent=20.0, checkout=str(clone)))
        done = weft(mesh.secrets.parent, "lane", "promote", "next", "--json")

    assert 0 == done.returncode, done.stderr
    said, after = json.loads(done.stdout), pids(mesh)
    assert ["catalog"] == said["services"]
    assert set(before) == set(after)
    assert {} == {name: pid for name, pid in after.items() if pid == before[name]}
    assert [] == mesh.lanes()
    assert (0, {}) == (load.result["errors"], load.result["refusals"])


def test_code_that_is_not_here_yet_is_named_and_nothing_is_begun(mesh: Mesh, clone: Path) -> None:
    (clone / "svc" / "catalog" / "__init__.py").write_text('"""Another version."""\n')
    before = pids(mesh)
    mesh.start_lane("next", LaneSpec(("catalog",), checkout=str(clone)))

    done = weft(mesh.secrets.parent, "lane", "promote", "next")

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert "not here yet: svc/catalog/__init__.py differs" in done.stderr
    assert before == pids(mesh)
    assert ["next"] == [each["name"] for each in mesh.lanes()]
