"""Crash points: each in one list and one place, armed by tests alone, and a death that nothing softens."""

import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from svc.chassis import crash
from svc.chassis.crash import Point

ROOT = Path(__file__).resolve().parents[4]
DIE = """
import atexit, sys
from pathlib import Path
from svc.chassis import crash
from svc.chassis.crash import Point
folder = Path(sys.argv[1])
crash.arm_by_files(folder, "orders")
atexit.register(lambda: (folder / "cleaned").touch())
try:
    crash.passed(Point.WORK_DONE)
    (folder / "between").touch()
    crash.passed(Point.COMMITTED)
finally:
    (folder / "finally").touch()
"""


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    crash.arm(None)


def die(folder: Path) -> int:
    run = subprocess.run([sys.executable, "-c", DIE, str(folder)], capture_output=True, cwd=ROOT, timeout=60)
    (folder / "log").write_bytes(run.stdout + run.stderr)
    return run.returncode


def test_whoever_comes_by_a_point_that_is_set_is_gone_at_once_and_nothing_is_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / "orders.committed").touch()

    assert -signal.SIGKILL == die(tmp_path)

    left = {path.name for path in tmp_path.iterdir()} - {"log"}
    (reached,) = [name for name in left if re.fullmatch(r"orders\.committed\.[0-9]+", name)]
    assert {"between", reached} == left
    assert "crash_points_armed" in (tmp_path / "log").read_text()


def test_what_is_set_for_another_process_or_another_point_harms_nobody(tmp_path: Path) -> None:
    for name in ("catalog.committed", "orders.call-entered"):
        (tmp_path / name).touch()

    assert 0 == die(tmp_path)

    left = {path.name for path in tmp_path.iterdir()} - {"log"}
    assert {"catalog.committed", "orders.call-entered", "between", "finally", "cleaned"} == left


def test_one_file_ends_one_process(tmp_path: Path) -> None:
    (tmp_path / "orders.work-done").touch()

    assert [-signal.SIGKILL, 0] == [die(tmp_path), die(tmp_path)]


def test_a_process_that_is_not_armed_passes_by(tmp_path: Path) -> None:
    told: list[Point] = []
    crash.arm(told.append)
    crash.passed(Point.WORK_DONE)
    crash.arm(None)
    for point in Point:
        crash.passed(point)

    assert [Point.WORK_DONE] == told


def test_every_point_lies_between_two_steps_and_none_is_only_a_word() -> None:
    used: Counter[str] = Counter()
    for package in ("svc", "worker"):
        for path in (ROOT / package).rglob("*.py"):
            used.update(re.findall(r"passed\((?:job, )?Point\.([A-Z_]+)\)", path.read_text()))

    assert {point.name: 1 for point in Point} == dict(used)
