"""Builds the client in Go by its own recipe, with the pinned toolchain and modules, once for each state of it."""

import os
import shutil
from pathlib import Path
from typing import Final

from tests.clients.kept import CLIENTS, CONTRACTS, ROOT, BuildError, built, run
from tests.go import build as mesh

FOLDER: Final = CLIENTS / "go"
_CONTRACTS: Final = ("weft/catalog", "weft/identity", "weft/orders")


def program() -> Path:
    """The test's program, built where it is not. Raises BuildError."""
    return built("go", (Path(__file__), CONTRACTS, FOLDER), _build) / "program"


def tests() -> Path:
    """The package's own tests, built where they are not. Raises BuildError."""
    return program().with_name("tests")


def _build(folder: Path) -> None:
    source = folder / "source"  # as somebody has it who took the folder out of the clone
    shutil.copytree(FOLDER, source, ignore=shutil.ignore_patterns("gen"))
    try:
        mesh.fetch_modules(source)
    except mesh.BuildError as error:
        raise BuildError(str(error)) from error
    settings = dict(setting.split("=", 1) for setting in mesh.SETTINGS)
    path = f"{mesh.toolchain().parent}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251 - the recipe's Go is that of the PATH
    environ = {**os.environ, **settings, "PATH": path, "WEFT": str(ROOT)}  # noqa: TID251 - the user's settings of Go hold
    run(source / "generate.sh", *_CONTRACTS, folder=source, environ=environ)
    go = ("env", *mesh.SETTINGS, mesh.toolchain())
    run(*go, "build", "-ldflags=-s -w", "-o", folder / "program", "./program", folder=source)
    run(*go, "test", "-c", "-ldflags=-s -w", "-o", folder / "tests", ".", folder=source)
