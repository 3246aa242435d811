"""What all tests share: the option that rewrites goldens, who runs beside whom, and the programs in Go."""

import os
import signal
import subprocess
import sys
from typing import Final

import pytest
from _pytest.nodeid import coerce_node_id
from hypothesis import HealthCheck, settings

from tests.go import build

# The machine may be busy: an example that takes long, or is made slowly, is no failure.
settings.register_profile("weft", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("weft")

# Whoever starts the suite in the background has it ignore Ctrl-C, and every process of a test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="Write goldens and transcripts anew. Commit a changed one only if you understand why it changed.",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # `make test` runs two processes, which take whole groups in this order: the next is for whoever is free.
    if "PYTEST_XDIST_WORKER" in os.environ:
        for item in items:
            # What the marker xdist_group does, which pytest-xdist 3.8 says where pytest 9.2 no longer looks.
            item._id = coerce_node_id(f"{item.nodeid}@{_group(item)}")
    items.sort(key=_rank)


#: The order of groups. What is marked `first` has a mesh of its own that takes the whole machine; the process that had
#: it goes on with the suite's mesh, and the other one begins with what needs servers alone. What is marked `calls` is
#: for whoever is free first: a process starts the suite's mesh once, and in a second one, which costs half a minute,
#: calls do not meet what tests of the first kill.
_ORDER: Final = ("first", "real_servers", "mesh", "a module of integration", "calls")


def _rank(item: pytest.Item) -> int:
    """Place of a test's group; whatever is quick comes last, and fills what is left of either process's time."""
    group = _group(item)
    if group not in _ORDER and "integration" in item.path.parts:
        group = "a module of integration"
    return _ORDER.index(group) if group in _ORDER else len(_ORDER)


def _group(item: pytest.Item) -> str:
    """Tests of one group run in one process: those who share the mesh, or servers, or a module."""
    module = item.nodeid.partition("::")[0]
    if "integration" not in item.path.parts:
        return module  # what it calls a mesh is one of its own
    if item.get_closest_marker("first"):
        return "first"
    fixtures = getattr(item, "fixturenames", ())
    if "mesh" in fixtures and item.get_closest_marker("calls"):
        return "calls"
    return next((name for name in ("mesh", "real_servers") if name in fixtures), module)


_ahead = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    # Compiling takes minutes the first time: it begins now, beside the tests that need none of it.
    wanted = any("go_programs" in getattr(item, "fixturenames", ()) for item in session.items)
    first = os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0"
    if wanted and first and not session.config.option.collectonly:
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
    ahead = pytestconfig.stash.get(_ahead, None)
    if ahead is not None:
        ahead.wait()
    return build.built()  # nothing is left to do, or what went wrong is said now
