"""Fixtures of the supervisor's unit tests."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.supervisor.layout import Layout
from deploy.supervisor.workspace import temporary


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory with a path short enough for unix sockets, which pytest's own need not be."""
    with temporary() as path:
        yield path


@pytest.fixture
def layout(folder: Path) -> Layout:
    """A data directory that is ready for a mesh."""
    made = Layout(folder / "data")
    made.prepare(None)
    return made


@pytest.fixture
def listener() -> Iterator[int]:
    """A port of this machine that somebody has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def cockroach() -> str:
    """URL of a CockroachDB that may be written to; the test is skipped where none is named."""
    address = os.environ.get("WEFT_TEST_COCKROACH_URL", "")
    if not address:
        pytest.skip("WEFT_TEST_COCKROACH_URL names no CockroachDB")
    return address
