"""How a verb ends: its exit code, and the one line on standard error that says why.

0 it is done, and the answer is yes    1 it failed, or the answer is no    2 a wrong argument or setting
3 the mesh does not run, or does not answer    130 stopped by Ctrl-C    141 whoever read the output has gone
"""

import sys
from typing import Annotated, Final, NoReturn

import typer

FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
#: 128 and the number of the signal, as shells have it.
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def fail(code: int, message: str) -> NoReturn:
    """Leave with one clear line on standard error."""
    print(f"weft: {message}", file=sys.stderr)
    raise typer.Exit(code)
