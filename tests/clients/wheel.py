"""Builds the wheel `weft-client` and installs it where nothing else is."""

import importlib.metadata
from pathlib import Path

from tests.clients.kept import BINARIES, CLIENTS, ROOT, built, run
from tests.clients.kept import first_of as _first_of

_SOURCES = (
    Path(__file__),
    CLIENTS / "python",
    ROOT / "protos" / "gen" / "weft",
    ROOT / "protos" / "gen" / "buf",
    ROOT / "protos" / "py" / "weft_protos",
)
_PINNED = ("grpcio", "protobuf", "googleapis-common-protos", "typing-extensions")


def installed() -> Path:
    """The Python of an environment that has the wheel and what it asks for, and nothing else. Raises BuildError."""
    return built("python", _SOURCES, _build) / "venv" / "bin" / "python"


def _build(folder: Path) -> None:
    uv = BINARIES / "uv"
    # By the locked hatchling of our own environment: building asks no index.
    build = (uv, "build", "--wheel", "--no-build-isolation", "--python", BINARIES / "python", "--out-dir", folder)
    run(*build, CLIENTS / "python", folder=folder)
    run(uv, "venv", "--quiet", "--python", BINARIES / "python", folder / "venv", folder=folder)
    (wheel,) = folder.glob("*.whl")
    versions = folder / "versions.txt"
    versions.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in _PINNED))
    install = (uv, "pip", "install", "--quiet", "--python", folder / "venv", "--constraint", versions, wheel)
    _first_of([(*install, "--offline"), install], folder=folder)
