"""Fixtures of the supervisor's unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.supervisor.workspace import temporary


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory with a path short enough for unix sockets, which pytest's own need not be."""
    with temporary() as path:
        yield path
