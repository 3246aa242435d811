"""What all tests share: the option that rewrites goldens and transcripts, and the programs in Go."""

import os
import signal
import subprocess
import sys

import pytest

from tests.go import build


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="Write goldens and transcripts anew. Commit a changed one only if you understand why it changed.",
    )


_ahead = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    # Compiling takes minutes the first time: it begins now, beside the tests that need none of it.
    wanted = any("go_programs" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        command = ["nice", sys.executable, "-m", "tests.go.build"]
        session.config.stash[_ahead] = subprocess.Popen(
            command, cwd=build.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    # A session that was interrupted leaves no compiler behind.
    ahead = session.config.stash.get(_ahead, None)
    if ahead is not None and ahead.poll() is None:
        os.killpg(ahead.pid, signal.SIGTERM)
        ahead.wait()


@pytest.fixture(scope="session")
def go_programs(pytestconfig: pytest.Config) -> build.Programs:
    """The client and the server in Go."""
    pytestconfig.stash[_ahead].wait()
    return build.built()  # nothing is left to do, or what went wrong is said now
