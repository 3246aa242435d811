"""A lane is promoted only where the stable instances would become what it is."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import lane_promotion
from deploy.supervisor.errors import RefusedError


def lane(**changed: Any) -> dict[str, Any]:
    return {"name": "canary", "services": ["orders"], "reason": "", "env": {}, "checkout": "", **changed}


@pytest.fixture
def clones(tmp_path: Path) -> tuple[Path, Path]:
    """Two clones with the same code."""
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "svc" / "orders").mkdir(parents=True)
    (here / "svc" / "orders" / "model.py").write_text("LIMIT = 1\n")
    (here / "uv.lock").write_text("one\n")
    shutil.copytree(here, there)
    return here, there


def test_a_lane_of_the_same_code_is_taken(clones: tuple[Path, Path]) -> None:
    here, there = clones
    (here / "svc" / "orders" / "model.pyc").write_text("compiled")
    (here / "README.md").write_text("no code")

    lane_promotion.check(lane(checkout=str(there)), here)
    lane_promotion.check(lane(), here)


@pytest.mark.parametrize("changed", ["svc/orders/model.py", "svc/orders/new.py", "uv.lock"])
def test_code_that_is_not_here_yet_is_named(clones: tuple[Path, Path], changed: str) -> None:
    here, there = clones
    (there / changed).write_text("LIMIT = 2\n")

    with pytest.raises(RefusedError, match=f"not here yet: {changed} differs"):
        lane_promotion.check(lane(checkout=str(there)), here)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"reason": "errors"}, "was rolled back: errors"),
        ({"env": {"FEATURE": "on"}}, "differs by its environment .FEATURE."),
        ({"checkout": "/none"}, "/none, whose code canary runs, is not there any more"),
    ],
)
def test_a_lane_that_cannot_become_stable_is_refused(
    clones: tuple[Path, Path], changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(RefusedError, match=says):
        lane_promotion.check(lane(**changed), clones[0])


def test_the_clone_is_that_of_the_supervisor() -> None:
    assert Path.cwd() == lane_promotion.clone_of(os.getpid())
    assert lane_promotion.PROJECT == lane_promotion.clone_of(0)


def test_the_code_of_this_clone_is_found() -> None:
    found = lane_promotion.code(lane_promotion.PROJECT)

    assert {"svc/orders/model.py", "protos/gen/contracts.binpb", "uv.lock"} <= set(found)
