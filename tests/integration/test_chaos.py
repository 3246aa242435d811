"""A short schedule of faults breaks no invariant; `make chaos` runs long ones."""

from pathlib import Path

import pytest

from deploy.supervisor.mesh import Mesh
from tests.chaos import run, schedule
from tests.chaos.check import State

SECONDS = 45.0


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [389])
def test_invariants_hold_whatever_is_killed_ended_or_frozen(mesh: Mesh, tmp_path: Path, seed: int) -> None:
    mesh.wait_ready()

    verdict = run.run(mesh, schedule.make(seed, seconds=SECONDS), tmp_path)

    assert ([], State.PASSED) == (verdict.lines(), verdict.state)
