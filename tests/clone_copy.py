"""A copy of this clone to change at will: sources and generated code of its own, the packages of the original."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = (".git", ".venv", "build", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
#: Generous: a tool that a busy machine makes slow has found nothing.
TOOL_S = 600.0


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

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace what stands once in a file, and save it as editors do."""
        path = self.root / name
        text = path.read_text()
        assert 1 == text.count(old), f"{name}: {old!r}"
        path.write_text(text.replace(old, new))
