"""`make capture`: runs commands on the running mesh in a terminal, and writes docs/weft.svg of what was to be seen.

Nothing is made up: what the picture shows is what the commands printed, when they printed it. Long waits are cut to
two seconds, and the picture says so.
"""

import argparse
import sys
from pathlib import Path
from typing import Final

from docs.capture import picture, recording

ROOT: Final = Path(__file__).resolve().parents[2]
#: What the picture shows, unless commands are named. Each leaves the mesh as it was.
COMMANDS: Final = (
    "weft status",
    "weft call ListProducts -d '{\"page_size\": 2}'",
    "weft kill any --every 5s --for 20s --under-load 50",
    "weft explain --as catalog.read PlaceOrder | head -8",
)


def main() -> int:
    """Record, or draw what was recorded before."""
    parser = argparse.ArgumentParser(prog="python -m docs.capture", description=__doc__)
    parser.add_argument("commands", nargs="*", default=list(COMMANDS), help="instead of the usual ones")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "docs/weft.svg", metavar="FILE", help="picture (%(default)s)"
    )
    parser.add_argument("--cast", type=Path, metavar="FILE", help="keep the recording too, as asciicast v2")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="draw this recording; run nothing")
    arguments = parser.parse_args()
    if arguments.source is not None:
        seen = recording.read(arguments.source.read_text(encoding="utf-8"))
    else:
        seen = recording.record(arguments.commands, ROOT)
    if arguments.cast is not None:
        arguments.cast.write_text(recording.written(seen), encoding="utf-8")
    arguments.out.write_text(picture.draw(seen), encoding="utf-8")
    print(f"{len(seen.events)} pieces of output, {seen.ended:.0f} s -> {arguments.out}")
    if seen.failed:
        print(f"capture: exit code {seen.failed[1]}: {seen.failed[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
