"""The second example, put into a copy of the clone by the very commands of its page."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import Final

from tests.clone_copy import ROOT, TOOL_S, Copy

PAGE: Final = ROOT / "docs" / "second-example.md"
FILES: Final = ROOT / "docs" / "examples" / "thumbnails"


def commands(title: str = "Make it") -> list[str]:
    """What the page says under a title, line by line."""
    found = re.search(rf"^## {title}\n.*?^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].splitlines()


def _generating() -> list[str]:
    """The recipe of `make gen`, but for the page's code: a copy has no Node."""
    found = re.search(r"^gen:.*\n((?:\t.+\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    recipe = found[1].replace("$(PYTHON)", ".venv/bin/python").replace("$(WEFT)", ".venv/bin/weft")
    return [line.strip() for line in recipe.splitlines() if line.strip() != "console/generate"]


def put(copy: Copy) -> None:
    """Have it in a copy."""
    _run(copy, commands())


def take_out(copy: Copy) -> None:
    """Have it in a copy no more. No mesh runs there, and none of its packages are its own."""
    _run(
        copy,
        [line for line in commands("Take it out again") if not line.startswith((".venv/bin/weft", ".venv/bin/uv"))],
    )


def _run(copy: Copy, lines: Sequence[str]) -> None:
    """Run commands of the page in a copy, whose programs of Python are modules."""
    programs = {".venv/bin/weft": [str(copy.python), "-m", "deploy.cli"], ".venv/bin/python": [str(copy.python)]}
    steps = [step for line in lines for step in (_generating() if line == "make gen" else [line])]
    for line in steps:
        program, *arguments = shlex.split(line)
        done = subprocess.run(
            [*programs.get(program, [program]), *arguments],
            cwd=copy.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_S,
            check=False,
        )
        assert 0 == done.returncode, f"{line}: {done.stderr}"


def names() -> set[str]:
    """Its files, by their path in a clone."""
    found = (path for path in FILES.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(FILES).as_posix() for path in found}
