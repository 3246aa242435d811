"""Temporary data directories for tests: reachable by the account that servers run under, and removed afterwards.

pytest's `tmp_path` is not usable for servers: its parent is closed to everybody but the user who runs the tests.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def temporary() -> Iterator[Path]:
    """An empty directory for one mesh, with a path short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="weft-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
