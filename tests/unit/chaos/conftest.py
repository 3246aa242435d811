"""One small mesh for all tests of this folder: its stores take longer to start than any of them to run."""

from collections.abc import Iterator

import pytest

from tests.unit.chaos import small_mesh
from tests.unit.chaos.small_mesh import SmallMesh


@pytest.fixture(scope="session")
def small() -> Iterator[SmallMesh]:
    with small_mesh.started() as running:
        yield running
