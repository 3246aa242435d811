"""A shell that follows a document: one bash for all blocks of a kind, so that what one sets the next one has.

The words of a document are those of a machine where `make up` ran; `Reading` says what stands for them here.
"""

import os
import secrets
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.documents.blocks import ROOT, Block, matches

#: Longer than any command of a document takes on a busy machine; one that hangs is found all the same.
BLOCK_S: Final = 600.0
#: Commands fail where a reader would see an error, not only where bash does.
_PRELUDE: Final = """
set -uo pipefail
curl() { command curl --fail-with-body --max-time 60 "$@"; }
weft() { "$DOCUMENT_PYTHON" -m deploy.cli "$@"; }
"""


@dataclass(frozen=True)
class Reading:
    """How a document is read in a place of the suite's own."""

    folder: Path = ROOT
    python: str = sys.executable
    environ: Mapping[str, str] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    """What stands for what: `127.0.0.1:8080` for the mesh's gateway."""

    def script(self, text: str) -> str:
        """A block in the words of this place."""
        said = text.replace(".venv/bin/weft", "weft").replace(".venv/bin/python", shlex.quote(self.python))
        said = said.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
        for word in sorted(self.words, key=len, reverse=True):
            said = said.replace(word, self.words[word])
        return said


@dataclass(frozen=True)
class Ran:
    """What became of a block."""

    block: Block
    code: int
    output: str
    errors: str

    @property
    def wrong(self) -> str:
        """What is not as the document says; empty where all is."""
        report = f"{self.block.place}\n{self.block.text}\n-- printed:\n{self.output}\n-- errors:\n{self.errors}"
        if self.code != self.block.code:
            return f"exit code {self.code} instead of {self.block.code}: {report}"
        if self.block.prints is not None and not matches(self.block.prints, self.output):
            return f"the document says otherwise:\n{self.block.prints}\n{report}"
        return ""


def run(blocks: Sequence[Block], reading: Reading) -> list[Ran]:
    """Run blocks of one document one after another, up to the first that goes wrong.

    A block ends at its first command that fails: what is behind it would hide that.
    """
    mark = f"--{secrets.token_hex(8)}--"
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}  # noqa: TID251
    environ = {**inherited, "NO_COLOR": "1", **reading.environ, "DOCUMENT_PYTHON": reading.python}
    parts = [_PRELUDE]
    said = f"printf '\\n%s %s\\n' {mark} $code; printf '\\n%s\\n' {mark} >&2"
    ended = said.replace("'", '"')  # within the quotes of a trap
    for block in blocks:
        script = reading.script(block.text)
        if block.code:  # what is to fail may not end the shell that the next blocks need
            parts.append(f"( set -e\n{script}\n)\ncode=$?; {said}\n")
        else:
            parts.append(f"trap 'code=$?; {ended}' EXIT\nset -e\n{script}\nset +e\ntrap - EXIT\ncode=0; {said}\n")
    done = subprocess.run(
        ["bash", "-c", "".join(parts)],
        cwd=reading.folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BLOCK_S * max(1, len(blocks)),
        check=False,
    )
    return _taken_apart(blocks, done, mark)


def _taken_apart(blocks: Sequence[Block], done: "subprocess.CompletedProcess[str]", mark: str) -> list[Ran]:
    pieces = done.stdout.split(f"\n{mark} ")
    errors = done.stderr.split(f"\n{mark}\n")
    ran, output = [], pieces[0]
    for index, piece in enumerate(pieces[1:]):
        code, _, following = piece.partition("\n")
        said = errors[index] if index < len(errors) else ""
        ran.append(Ran(blocks[index], int(code), output, said))
        output = following
    return ran
