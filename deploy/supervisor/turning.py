"""Files that belong together and are replaced together, by one rename, under names that stay.

DIR/tls.crt     -> current/tls.crt, what readers are told of
DIR/current     -> the directory of one set of files; turned by one rename, which readers may watch for
DIR/pair-NAME   the files themselves

So a reader sees the old set or the new one, whatever file it reads first.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.supervisor.layout import Layout


def turn(layout: Layout, folder: Path, name: str, contents: Mapping[str, str]) -> None:
    """Put a set of files in place of the one before. `name`: one that no other set has."""
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder / f"pair-{name}"
    place.mkdir(mode=0o700, exist_ok=True)
    for file, content in contents.items():
        layout.write(place / file, content, None)
        shown = folder / file
        if not shown.is_symlink():
            shown.symlink_to(f"current/{file}")
    current = folder / "current"
    before = folder / os.readlink(current) if current.is_symlink() else None
    turned = folder / ".current.new"
    turned.unlink(missing_ok=True)
    turned.symlink_to(place.name)
    turned.replace(current)
    for other in folder.glob("pair-*"):
        # The one before may be being read.
        if other not in (place, before):
            shutil.rmtree(other)
