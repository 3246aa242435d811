"""`python -m docs.site pages | build`: writes the generated pages into the tree, or the whole site into build/docs."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from docs.site import building, troubleshooting, verbs

ROOT: Final = Path(__file__).resolve().parents[2]


def generated() -> Mapping[Path, str]:
    """The generated pages by their path below the root."""
    return {Path("docs/reference/verbs.md"): verbs.page(), Path("docs/troubleshooting.md"): troubleshooting.page()}


def _pages(arguments: argparse.Namespace) -> int:
    old = [path for path, text in generated().items() if not _has(ROOT / path, text)]
    if arguments.check:
        for path in old:
            print(f"{path} is not what contracts and command line say; run `make gen`", file=sys.stderr)
        return 1 if old else 0
    for path in old:
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(generated()[path], encoding="utf-8")
        print(f"{path} is written")
    return 0


def _has(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


def _build(arguments: argparse.Namespace) -> int:
    try:
        building.build(ROOT, arguments.out, unless_fresh=arguments.unless_fresh)
    except building.BuildFailedError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 1
    print(f"documents -> {arguments.out / 'index.html'}; in a mesh that runs: /docs/ of the gateway")
    return 0


def main() -> int:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    commands = parser.add_subparsers(required=True)
    pages = commands.add_parser("pages", help="write the pages that are generated", description="Write them.")
    pages.add_argument("--check", action="store_true", help="only say which are old; exit 1 where one is")
    pages.set_defaults(run=_pages)
    build = commands.add_parser("build", help="build the site", description="Example: python -m docs.site build")
    build.add_argument("--out", type=Path, default=Path("build/docs"), metavar="DIR", help="directory (%(default)s)")
    build.add_argument("--unless-fresh", action="store_true", help="not where it is of the same sources already")
    build.set_defaults(run=_build)
    arguments = parser.parse_args()
    code: int = arguments.run(arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
