"""Names that a shell may complete: of the running mesh where one runs, of the contracts where not.

Called by typer for the word under the cursor. Whatever goes wrong, there is just nothing to choose from: an error
would be printed into the middle of somebody's line.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from deploy.supervisor.config import Settings
from deploy.supervisor.errors import SupervisorError
from deploy.supervisor.layout import Layout
from deploy.supervisor.messages import Process

Completer = Callable[[str], list[str]]


def _completing(names: Callable[[], Iterable[str]]) -> Completer:
    """Those of the names that begin as the word does."""

    def complete(incomplete: str) -> list[str]:
        with _quietly():
            return [name for name in dict.fromkeys(names()) if name.startswith(incomplete)]
        return []

    return complete


def one_of(names: Iterable[str]) -> Completer:
    """Those of a few known names."""
    return _completing(lambda: names)


@contextmanager
def _quietly() -> Iterator[None]:
    with suppress(SupervisorError, OSError, ValueError, KeyError):
        yield


def _layout() -> Layout:
    return Layout(Settings.from_environ().data)


def _running() -> Iterable[Process]:
    # Not through Mesh: that brings along what starts one.
    from deploy.supervisor.client import Client

    return Client(_layout().socket).status().processes


def _processes() -> Iterator[str]:
    return (process.name for process in _running())


def _services() -> Iterator[str]:
    return (process.service for process in _running())


def _targets() -> Iterator[str]:
    yield "any"
    yield from _processes()


def _logs() -> Iterator[str]:
    parts = sorted(path.stem for path in _layout().log.glob("*.log"))
    yield from parts
    yield from (stem for stem, _, number in (part.rpartition("-") for part in parts) if stem and number.isdigit())


def _scalable() -> Iterable[str]:
    from deploy.supervisor.desired import SCALABLE

    return SCALABLE


def _lanes() -> Iterable[str]:
    lanes: dict[str, object] = json.loads(_layout().desired.read_text())["lanes"]
    return lanes


def _laned() -> Iterable[str]:
    from deploy.supervisor.desired import LANED

    return LANED


def _scopes() -> Iterable[str]:
    from weft_protos import policy

    return sorted(policy.scopes())


def methods(incomplete: str) -> list[str]:
    """Methods of the contracts: `GetProduct`; with a service before them where that is how the word begins."""
    from weft_protos import policy

    every = [(service, method) for service in policy.SERVICES for method in service.methods]
    short = [method.name for _, method in every]
    long = [f"{service.full_name}/{method.name}" for service, method in every]
    middle = [f"{service.name}/{method.name}" for service, method in every]
    for names in (short, middle, long):
        if found := [name for name in dict.fromkeys(names) if name.startswith(incomplete)]:
            return found
    return []


processes: Completer = _completing(_processes)
services: Completer = _completing(_services)
targets: Completer = _completing(_targets)
logs: Completer = _completing(_logs)
scalable: Completer = _completing(_scalable)
lanes: Completer = _completing(_lanes)
laned: Completer = _completing(_laned)
scopes: Completer = _completing(_scopes)
