"""Lua filters: the script that lies beside its filter, with the constants it shares with Python written above it."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from weft_protos.xds import envoy

_SCRIPTS = "gateway.envoy.filters"
#: A script keeps little and throws away a little with every call. Lua would collect that as soon as it is as much as
#: what is kept; waiting for more costs a script some hundred kB and saves most of the collecting.
_GARBAGE_PERCENT = 400
_COLLECTING = f'collectgarbage("setpause", {_GARBAGE_PERCENT})\n'


def lua(name: str, *, script: str, constants: Mapping[str, str | int], calls: str = "") -> Any:
    """The config of a Lua filter; `calls` are Lua too, for what a constant cannot say, and run once at the end."""
    return envoy(
        "extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": _COLLECTING + source(script, constants) + calls},
        stat_prefix=name.rsplit(".", 1)[-1],
        # No script changes what routes are chosen by, so none may make Envoy choose again.
        clear_route_cache=False,
    )


def source(script: str, constants: Mapping[str, str | int]) -> str:
    """The whole program: one `local` line for each constant, then the file."""
    text = resources.files(_SCRIPTS).joinpath(script).read_text(encoding="utf-8")
    head = "".join(f"local {key} = {_literal(value)}\n" for key, value in constants.items())
    return head + text


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if not value.isascii() or not value.isprintable() or '"' in value or "\\" in value:
        raise ValueError(f"a Lua constant must be plain text: {value!r}")
    return f'"{value}"'
