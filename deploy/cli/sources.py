"""Where the verbs of `weft contracts` get descriptor sets from, and the commands that judge them.

Every command here is a process: this package shares contracts with the compiler and the publisher, never code.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.supervisor.config import PROJECT, child_environ

GENERATED = "protos/gen/contracts.binpb"
#: `buf breaking` found something; any other code is trouble with its arguments.
BUF_FOUND = 100
COMMAND_TIMEOUT_S = 3700.0


class CommandFailedError(Exception):
    """A command ended in failure; `lines` is what it said, `code` what to exit with."""

    def __init__(self, lines: Sequence[str], code: int) -> None:
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)
        self.code = code


@contextmanager
def folder() -> Iterator[Path]:
    """A directory for what one command builds."""
    with tempfile.TemporaryDirectory(prefix="weft-contracts-") as path:
        yield Path(path)


def python(
    module: str, *arguments: str, environ: Mapping[str, str] | None = None, answers: tuple[int, ...] = (0,)
) -> str:
    """What one of our modules prints. Raises CommandFailedError where its code is none of `answers`."""
    # What it says goes to the user in lines; its own log would be among them.
    settings = {**(environ or child_environ()), "WEFT_LOG_LEVEL": "error"}
    done = _run([sys.executable, "-m", module, *arguments], settings)
    if done.returncode not in answers:
        said = [line.removeprefix(f"{module}: ") for line in done.stderr.splitlines() if line.strip()]
        raise CommandFailedError(said or [f"{module} ended with {done.returncode}"], done.returncode)
    return done.stdout


def built(target: Path, given: Path | None, *, without: Collection[str] = ()) -> Path:
    """The descriptor set to look at: `given`, or that of this clone's .proto files. Raises CommandFailedError.

    `without`: packages below `weft` that are left out, unless others import them.
    """
    if given is not None:
        return given.resolve()
    out = target / "contracts.binpb"
    left_out = [path for name in sorted(without) if (path := f"protos/weft/{name}") and (PROJECT / path).is_dir()]
    excluded = [word for path in left_out for word in ("--exclude-path", path)]
    done = _run([_buf(), "build", "-o", str(out), "--as-file-descriptor-set", *excluded], child_environ())
    if done.returncode != 0:
        raise CommandFailedError(done.stderr.splitlines() or ["buf build failed"], 1)
    return out


def is_generated(descriptors: Path) -> bool:
    """Whether the generated code, by which instances go, was made from the same contracts."""
    return (PROJECT / GENERATED).read_bytes() == descriptors.read_bytes()


def of_commit(revision: str, target: Path) -> Path:
    """The generated descriptor set of a commit; `make check` sees to it that it is what its .proto files say."""
    git = ("git", "-C", str(PROJECT))
    found = _run(
        [*git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}"], child_environ()
    )
    if found.returncode != 0:
        raise CommandFailedError([f"{revision} is neither a descriptor set nor a commit of this clone"], 2)
    out = target / "baseline.binpb"
    with out.open("wb") as file:
        command = [*git, "show", f"{found.stdout.strip()}:{GENERATED}"]
        shown = subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, env=child_environ(), check=False)
    if shown.returncode != 0:
        raise CommandFailedError([f"{revision} has no {GENERATED}"], 2)
    return out


def buf_breaking(after: Path, before: Path) -> list[dict[str, Any]]:
    """Changes of messages and methods that break callers. Raises CommandFailedError."""
    arguments = ("--exclude-imports", "--config", "buf.yaml", "--error-format", "json")
    done = _run([_buf(), "breaking", str(after), "--against", str(before), *arguments], child_environ())
    if done.returncode not in (0, BUF_FOUND):
        raise CommandFailedError(done.stderr.splitlines() or ["buf breaking failed"], 1)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [
        {
            # A deleted file has no place any more.
            "file": f"protos/{each['path']}" if "path" in each else "protos",
            "line": each.get("start_line", 1),
            "message": str(each["message"]).rstrip("."),
            "fix": "",
        }
        for each in found
    ]


def policy_violations(after: Path, before: Path) -> list[dict[str, Any]]:
    """Rules that the contracts break, and changes of policy that break callers. Raises CommandFailedError."""
    arguments = ("--descriptors", str(after), "--against", str(before), "--json")
    said = python("gateway", "check", *arguments, answers=(0, 1))
    violations: list[dict[str, Any]] = json.loads(said)["violations"]
    return violations


def _buf() -> str:
    path = Path(sys.executable).parent / "buf"
    if not os.access(path, os.X_OK):
        raise CommandFailedError([f"{path} is not there; run `make setup`"], 2)
    return str(path)


def _run(command: Sequence[str], environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=PROJECT,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
