"""Lua filters: the script beside its filter, with its parts and the constants it shares with Python above it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from weft_protos.xds import envoy

_FILTERS, _PARTS = "gateway.envoy.filters", "gateway.envoy.scripts"
#: A script keeps little and throws away a little with every call. Lua would collect that as soon as it is as much as
#: what is kept; waiting for more costs a script some hundred kB and saves most of the collecting.
_GARBAGE_PERCENT = 400
_COLLECTING = f'collectgarbage("setpause", {_GARBAGE_PERCENT})\n'
#: For scripts that ask Envoy for a few things and compare them: a call of Envoy's ends every trace that the compiler
#: begins, so it begins one after another and gains nothing.
_INTERPRETED = "jit.off()\n"


@dataclass(frozen=True, slots=True)
class Module:
    """A script that another one calls: what its file returns, under a local name."""

    name: str
    script: str
    constants: Mapping[str, str | int]


def lua(
    name: str,
    *,
    script: str,
    constants: Mapping[str, str | int],
    modules: Sequence[Module] = (),
    calls: str | None = None,
) -> Any:
    """The config of a Lua filter.

    `calls` are Lua too, for what a constant cannot say, and run once at the end; a script that has them works for long
    on each request and is compiled.
    """
    head = _COLLECTING if calls is not None else _INTERPRETED + _COLLECTING
    inner = "".join(
        f"local {each.name} = (function()\n{source(each.script, each.constants, _PARTS)}end)()\n" for each in modules
    )
    return envoy(
        "extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": head + inner + source(script, constants) + (calls or "")},
        stat_prefix=name.rsplit(".", 1)[-1],
        # No script changes what routes are chosen by, so none may make Envoy choose again.
        clear_route_cache=False,
    )


def source(script: str, constants: Mapping[str, str | int], package: str = _FILTERS) -> str:
    """The whole program: one `local` line for each constant, then the file."""
    text = resources.files(package).joinpath(script).read_text(encoding="utf-8")
    head = "".join(f"local {key} = {_literal(value)}\n" for key, value in constants.items())
    return head + text


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if not value.isascii() or not value.isprintable() or '"' in value or "\\" in value:
        raise ValueError(f"a Lua constant must be plain text: {value!r}")
    return f'"{value}"'
