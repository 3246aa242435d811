"""Methods of the linked contracts by whatever name people have for them, and what their contract says. Pure."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from weft_protos import policy

_SHOWN_MAX: Final = 3


class UnknownMethodError(Exception):
    """No contract has such a method, or several have."""


def find(name: str) -> MethodDescriptor:
    """The method of `GetProduct`, `CatalogService/GetProduct`, or `/weft.catalog.v1.CatalogService/GetProduct`.

    A dot before the method is as good as a slash. Raises UnknownMethodError, which names those that are meant.
    """
    wanted = name.removeprefix("/").replace("/", ".")
    every = {full_name(method): method for method in _all()}
    found = [full for full in every if f".{full.replace('/', '.')}".endswith(f".{wanted}")] if wanted else []
    if len(found) == 1:
        return every[found[0]]
    if found:
        raise UnknownMethodError(f"{name!r} may be {_listed(found)}; name its service too")
    short = sorted({method.name for method in every.values()})
    close = difflib.get_close_matches(wanted.rpartition(".")[2], short, n=_SHOWN_MAX, cutoff=0.5)
    hint = f"did you mean {_listed(close)}?" if close else f"there are {', '.join(short)}"
    raise UnknownMethodError(f"no contract has a method {name!r}; {hint}")


def full_name(method: MethodDescriptor) -> str:
    """`weft.catalog.v1.CatalogService/GetProduct`: its path without the slash before it."""
    return f"{method.containing_service.full_name}/{method.name}"


def scopes(method: MethodDescriptor) -> tuple[str, ...]:
    """One of these a token needs; none where the method is public."""
    said = policy.effective(method)
    return () if said.public else tuple(said.scopes)


def explanation(method: MethodDescriptor, reason: str) -> str:
    """What the contract itself says of a reason it declares; empty where it declares none such."""
    return next((error.comment for error in policy.effective(method).errors if error.reason == reason), "")


def _all() -> Iterator[MethodDescriptor]:
    for service in policy.SERVICES:
        yield from service.methods


def _listed(names: Iterable[str]) -> str:
    return " or ".join(names)
