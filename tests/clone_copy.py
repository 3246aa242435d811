"""A copy of this clone to change at will: sources and generated code of its own, the packages of the original."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from deploy.supervisor.mesh import Mesh

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = (".git", ".venv", "build", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
#: Generous: a tool that a busy machine makes slow has found nothing.
TOOL_S = 600.0
START_S = 700.0
#: Holds an ephemeral mesh of the copy's own: it is gone when this process is, however that ends.
_HOLD: Final = """
import sys
from pathlib import Path
from deploy.supervisor.mesh import Mesh
with Mesh(Path(sys.argv[1]), ports="free", ephemeral=True) as mesh:
    mesh.start(timeout_s=600)
    print("up", flush=True)
    sys.stdin.read()
"""


class Copy:
    """A clone of its own in a directory, with an environment that runs its code and nothing of the original's."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
        self.root = folder
        self.python = folder / ".venv" / "bin" / "python"
        venv.create(folder / ".venv", symlinks=True)
        (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
        # Paths named in such a file are not looked through for more of them: the original is not among what is found.
        ours = ("", "protos/gen", "protos/py", "protos/clients/python")
        places = (*(folder / name for name in ours), sysconfig.get_path("purelib"))
        (packages / "copy.pth").write_text("".join(f"{place}\n" for place in places))
        # Programs. Scripts among them would run with the original's interpreter: modules are run with `run`.
        for tool in Path(sys.executable).parent.iterdir():
            if not (self.python.parent / tool.name).exists():
                (self.python.parent / tool.name).symlink_to(tool)

    def run(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run a module of the copy, `run("deploy.cli", "status")`, with more environment variables."""
        return subprocess.run(
            [str(self.python), "-m", *arguments],
            cwd=self.root,
            env={**os.environ, **environ},  # noqa: TID251 - what a shell in the copy would have
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
            check=False,
        )

    @contextmanager
    def mesh(self, data: Path) -> Iterator[Mesh]:
        """A mesh of the copy's code on free ports, for as long as the context lasts."""
        holder = subprocess.Popen(
            [str(self.python), "-c", _HOLD, str(data)],
            cwd=self.root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            assert "up\n" == holder.stdout.readline(), holder.stderr.read()
            yield Mesh(data)
        finally:
            holder.stdin.close()
            holder.wait(START_S)
            holder.stdout.close()
            holder.stderr.close()

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace what stands once in a file, and save it as editors do."""
        path = self.root / name
        text = path.read_text()
        assert 1 == text.count(old), f"{name}: {old!r}"
        path.write_text(text.replace(old, new))
