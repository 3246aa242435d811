"""The site is built beside a start, once for the same sources, and is in nobody's way where it cannot be."""

import os
import sys
from pathlib import Path

import pytest

from docs.site import beside, stamp

#: Builds a site as the real command does, at once.
BUILDS = (
    sys.executable,
    "-c",
    "from pathlib import Path; from docs.site import stamp; root, out = Path.cwd(), Path('build/docs')\n"
    "with stamp.alone(out): out.mkdir(); stamp.put(out, stamp.digest(root))",
)
FAILS = (sys.executable, "-c", "raise SystemExit('page.md: no such link')")


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a page and a contract."""
    for name in ("docs/index.md", "protos/weft/a.proto", "gateway/a.py", "ARCHITECTURE.md", "uv.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.setenv("PYTHONPATH", str(beside.ROOT))
    return tmp_path


def built(clone: Path) -> None:
    started = beside.start(clone, BUILDS)
    assert started is not None
    assert 0 == started.wait(60), (clone / beside.LOG).read_text()


def test_a_site_is_built_once_for_the_same_sources(clone: Path) -> None:
    built(clone)

    assert "" == beside.told(clone)
    assert beside.start(clone, FAILS) is None


@pytest.mark.parametrize("source", ["docs/index.md", "protos/weft/new.proto", "gateway/a.py", "uv.lock"])
def test_a_source_that_changes_or_comes_has_it_built_again(clone: Path, source: str) -> None:
    built(clone)

    (clone / source).write_text("changed")

    assert not stamp.fresh(clone, clone / beside.OUT)


def test_a_source_that_goes_has_it_built_again(clone: Path) -> None:
    built(clone)

    (clone / "docs/index.md").unlink()

    assert not stamp.fresh(clone, clone / beside.OUT)


def test_where_it_cannot_be_built_one_line_names_the_log_that_says_why(clone: Path) -> None:
    started = beside.start(clone, FAILS)
    assert started is not None
    assert 1 == started.wait(60)

    said = beside.told(clone)

    assert "could not be built" in said
    assert "\n" not in said
    assert "no such link" in (clone / beside.LOG).read_text()
    assert str(beside.LOG) in said


def test_what_is_being_built_is_neither_begun_again_nor_called_a_failure(clone: Path) -> None:
    with stamp.alone(clone / beside.OUT):
        assert beside.start(clone, FAILS) is None
        assert "still being built" in beside.told(clone)

    assert "could not be built" in beside.told(clone)


def test_nobody_waits_for_it_and_it_outlives_the_terminal(clone: Path) -> None:
    started = beside.start(clone, ("sleep", "600"))
    assert started is not None
    try:
        # Known from its very beginning, and not begun twice.
        assert "still being built" in beside.told(clone)
        assert beside.start(clone, FAILS) is None
        assert started.pid == os.getsid(started.pid)
    finally:
        started.kill()
        started.wait(60)

    assert "could not be built" in beside.told(clone)


def test_an_older_site_stays_while_a_newer_one_cannot_be_built(clone: Path) -> None:
    built(clone)
    (clone / "docs/index.md").write_text("changed")
    started = beside.start(clone, FAILS)
    assert started is not None
    assert 1 == started.wait(60)

    assert (clone / beside.OUT).is_dir()
    assert "older ones" in beside.told(clone)
