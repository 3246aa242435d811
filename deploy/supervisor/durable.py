"""Files that the next supervisor depends on: replaced as a whole or left as they were, whatever happens meanwhile."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Have `path`, readable by its owner alone, hold `text`. Raises OSError; then it holds what it held before.

    One writer at a time. It is on the disk first and has its name afterwards, so that neither a full disk, nor the
    death of this process, nor that of the machine leaves half of it.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
