"""Builds the client in Go with the pinned toolchain, modules and plug-ins, once for each state of it."""

import shutil
from pathlib import Path
from typing import Final

from tests.clients.kept import BINARIES, CLIENTS, CONTRACTS, BuildError, built, run
from tests.go import build as mesh
from weft_protos import consumer

FOLDER: Final = CLIENTS / "go"
_GENERATED: Final = ("weft/catalog", "weft/identity", "weft/orders", "weft/options", "buf/validate")


def program() -> Path:
    """The test's program, built where it is not. Raises BuildError."""
    return built("go", (Path(__file__), CONTRACTS, FOLDER), _build) / "program"


def tests() -> Path:
    """The package's own tests, built where they are not. Raises BuildError."""
    return program().with_name("tests")


def _build(folder: Path) -> None:
    source, plugins = folder / "source", folder / "plugins"
    shutil.copytree(FOLDER, source)
    try:
        mesh.fetch_modules(source)
    except mesh.BuildError as error:
        raise BuildError(str(error)) from error
    go = ("env", *mesh.SETTINGS, mesh.toolchain())
    run(*go, "build", "-o", f"{plugins}/", *mesh.PLUGINS, folder=source)
    template = source / "buf.gen.yaml"
    template.write_text(template.read_text().replace("{bin}", str(plugins)))
    paths = [word for path in _GENERATED for word in ("--path", path)]
    run(BINARIES / "buf", "generate", f"{CONTRACTS}#format=binpb", "--template", template, *paths, folder=source)
    (source / "gen" / "contract.go").write_text(
        "// Package gen says which contracts the code below it was made of.\npackage gen\n\n"
        f'// Contract is their hash.\nconst Contract = "{consumer.contract_hash()}"\n'
    )
    run(*go, "build", "-ldflags=-s -w", "-o", folder / "program", "./program", folder=source)
    run(*go, "test", "-c", "-ldflags=-s -w", "-o", folder / "tests", ".", folder=source)
    shutil.rmtree(plugins)
