"""What tests build of the clients: once for each state of its sources, kept below `build/clients`."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
CLIENTS: Final = ROOT / "protos" / "clients"
CONTRACTS: Final = ROOT / "protos" / "gen" / "contracts.binpb"
BINARIES: Final = Path(sys.executable).parent
#: What lies beside sources and is none.
_MADE: Final = frozenset({"__pycache__", "node_modules", "dist"})


class BuildError(Exception):
    """A client cannot be built; the text says what to do."""


def built(name: str, sources: Iterable[Path], build: Callable[[Path], None]) -> Path:
    """The folder that `build` filled from these files and folders; whoever comes meanwhile waits. Raises BuildError."""
    kept = ROOT / "build" / "clients" / name
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = kept / _digest(sources)
        done = folder / ".done"
        if not done.exists():
            # Nothing else is built of these sources: what lies here was built of others, or never finished.
            for old in kept.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            folder.mkdir()
            build(folder)
            done.touch()
    return folder


def run(*command: str | Path, folder: Path, environ: dict[str, str] | None = None) -> str:
    """What a command printed. Raises BuildError where it failed."""
    done = subprocess.run(list(map(str, command)), cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr + done.stdout)[-4000:]
        raise BuildError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{said}")
    return done.stdout


def first_of(commands: Sequence[Sequence[str | Path]], *, folder: Path) -> str:
    """What the first command printed that succeeds. Raises BuildError of the last."""
    for command in commands[:-1]:
        try:
            return run(*command, folder=folder)
        except BuildError:
            continue
    return run(*commands[-1], folder=folder)


def said(*command: str | Path, given: dict[str, Any]) -> Any:
    """What a client's program says of its calls; `given` is who calls, and what there is."""
    done = subprocess.run(
        list(map(str, command)), input=json.dumps(given), capture_output=True, text=True, timeout=120, check=False
    )
    assert "" == done.stderr
    return json.loads(done.stdout)


def _digest(sources: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
        for path in files:
            if not _MADE & set(path.parts):
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
