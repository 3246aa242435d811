"""Times as people write them on a command line: `5s`, `500ms`, `2m`, `1h`."""

import re
from typing import Final

import typer

_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S: Final = 7 * 24 * 3600.0


def seconds(text: str) -> float:
    """Seconds of `5s`, `500ms`, `2m`, `1h` or `5`. Raises typer.BadParameter."""
    found = _DURATION.fullmatch(text)
    value = float(found[1]) * _UNITS[found[2] or ""] if found else 0.0
    if not 0 < value <= _LONGEST_S:
        raise typer.BadParameter(f"{text} is not a duration; give one such as 5s, 500ms or 2m")
    return value
