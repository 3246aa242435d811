"""What the code of services and workers says of whom they call and which secrets they read.

Read from the source, not run: a service stays a stranger here. `resources.channel("catalog")` is how a service says in
its wiring that it calls another; a secret is read by its name, or by the method of `Secrets` that bears it.
"""

import ast
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from re import compile as pattern
from typing import Final

from deploy.ship.errors import ShipError

_SECRET: Final = pattern(r"[a-z][a-z-]*\.(password|key|email)")
_KEY: Final = pattern(r"([a-z]+)_key")


def callees(service: str) -> tuple[str, ...]:
    """The services whose methods a service calls. Raises ShipError where its wiring does not say which."""
    found = set()
    for path, node in _nodes(f"svc.{service}"):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "channel"):
            continue
        named = node.args[0] if len(node.args) == 1 else None
        if not (isinstance(named, ast.Constant) and isinstance(named.value, str)):
            raise ShipError(f"{path}:{node.lineno}: name the service that is called in the call itself")
        found.add(named.value)
    return tuple(sorted(found))


def secrets(service: str) -> tuple[str, ...]:
    """The secret files that a service reads beside those that all of them do."""
    found = set()
    for _, node in _nodes(f"svc.{service}"):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SECRET.fullmatch(node.value):
            found.add(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args:
            found |= {f"{key[1]}.key" for key in [_KEY.fullmatch(node.func.attr)] if key}
    return tuple(sorted(found))


def _nodes(package: str) -> Iterator[tuple[Path, ast.AST]]:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ShipError(f"there is no package {package}")
    for path in sorted(Path(next(iter(spec.submodule_search_locations))).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            yield path, node
