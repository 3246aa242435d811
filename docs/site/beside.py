"""`python -m docs.site.beside start | tell`: builds the site beside what else is done, where its sources have changed.

`make up` calls both. Nothing waits for the site and nothing fails by it: if it cannot be built, one line names the log.
Only the standard library is imported before it is known that there is something to do.
"""

import argparse
import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Final

from docs.site import stamp

ROOT: Final = Path(__file__).resolve().parents[2]
OUT: Final = Path("build/docs")
LOG: Final = Path("build/docs.log")


def start(root: Path, command: tuple[str, ...]) -> "subprocess.Popen[bytes] | None":
    """Begin to build, at the least priority and outliving whoever asked; None where there is nothing to do."""
    if stamp.fresh(root, root / OUT) or _building(root):
        return None
    (root / LOG).parent.mkdir(parents=True, exist_ok=True)
    with (root / LOG).open("ab") as log:
        try:
            # The builder inherits the lock with the log, so from here on until its end it is known that it runs.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None  # begun by another start in this very moment
        log.truncate(0)
        return subprocess.Popen(
            ["nice", "-n", "19", *command],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _building(root: Path) -> bool:
    return stamp.held(root / LOG) or stamp.building(root / OUT)


def told(root: Path) -> str:
    """What there is to say of the site; empty where it is as it should be."""
    if stamp.fresh(root, root / OUT):
        return ""
    if _building(root):
        return f"documents are still being built, and then served at /docs/; log: {LOG}"
    return f"documents could not be built, and the mesh runs without them or with older ones; why: {LOG}"


def main() -> int:
    """Never fails for the site's sake."""
    parser = argparse.ArgumentParser(prog="python -m docs.site.beside", description=__doc__)
    parser.add_argument("what", choices=("start", "tell"))
    what = parser.parse_args().what
    try:
        if what == "start":
            start(ROOT, (sys.executable, "-m", "docs.site", "build", "--unless-fresh"))
        elif said := told(ROOT):
            print(f"docs: {said}", file=sys.stderr)
    except OSError as error:
        print(f"docs: documents were not built: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
