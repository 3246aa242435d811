"""What both variants of the protocol have in common: how a client takes what it is sent, and who wants to know what.

A stream is a machine without I/O. The server tells it of requests (`receive`) and of names that may have changed
(`changed`), and asks it what has to be sent (`due`). All three are level-triggered: whatever has happened in between,
`due` sends the difference between what the client was sent and what it should have, and nothing twice. It looks only
at names that something was said of, so that a change costs nothing where nobody subscribes to it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

#: More names than any client of ours has; a stream that asks for more is broken or hostile.
NAMES_MAX: Final = 4096
#: The name that means all names.
WILDCARD: Final = "*"


@dataclass(frozen=True, slots=True)
class Nack:
    """A client refused a response; it keeps what it had."""

    type_url: str
    version: str
    detail: str


@dataclass(frozen=True, slots=True)
class Progress:
    """What the client has made of what it was sent."""

    waiting: tuple[str, ...] = ()
    """Types of which a response was neither accepted nor refused yet."""
    refused: tuple[Nack, ...] = ()
    """Responses that it refused, as far as nothing newer has replaced what was in them."""


class Watch(Protocol):
    """Where a stream says which names it wants to hear of; `WILDCARD` is one of them."""

    def add(self, type_url: str, names: Iterable[str]) -> None:
        """Tell of changes of these from now on."""

    def remove(self, type_url: str, names: Iterable[str]) -> None:
        """Tell no more of these."""


class Unwatched:
    """A watch for streams that are told of every change."""

    def add(self, type_url: str, names: Iterable[str]) -> None:
        """Do nothing."""

    def remove(self, type_url: str, names: Iterable[str]) -> None:
        """Do nothing."""


class Refusals:
    """What of one type a client has refused, by name: another version of a name replaces its refusal."""

    __slots__ = ("_by_name",)

    def __init__(self) -> None:
        self._by_name: dict[str, Nack] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._by_name))

    def refuse(self, names: Iterable[str], nack: Nack) -> None:
        """A response with these names was refused; one without any is remembered, too."""
        self._by_name.update(dict.fromkeys(tuple(names) or ("",), nack))

    def forget(self, names: Iterable[str]) -> None:
        """Something else was sent under these names."""
        if self._by_name:
            for name in ("", *names):
                self._by_name.pop(name, None)

    def nacks(self) -> tuple[Nack, ...]:
        """The refusals that still hold, each once."""
        return tuple(dict.fromkeys(self._by_name.values()))
