"""`read_mask` of AIP-157: a caller asks for some fields of a resource, and is sent these alone.

Called by a service's `rpc` around the use case: `of` before it, so that a wrong path costs nothing, `keep` after it.
Reading is not made cheaper by it, only the answer smaller, and what the caller uses known (svc/chassis/consumers.py).
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from svc.chassis.errors import InvalidArgument

#: Every field (AIP-161).
ALL: Final = "*"

#: Far longer than any path of a contract.
PATH_CHARS_MAX: Final = 200

Mask = Mapping[str, Any]
"""The fields to keep, each with the mask of what to keep inside it; an empty one keeps all."""


def of(mask: FieldMask, resource: type[Message]) -> Mask:
    """The mask, for answers that are or hold that resource; empty: all of it.

    Raises InvalidArgument for a path that the resource does not have, named by its place in the mask. A path may lead
    through a list, whose items are then all cut down; into a map it may not.
    """
    kind = cast(Descriptor, resource.DESCRIPTOR)
    wrong = [
        (f"read_mask.paths[{index}]", f"{path[:PATH_CHARS_MAX]!r} is no field of a {kind.name}")
        for index, path in enumerate(mask.paths)
        if path != ALL and not leads(path, kind)
    ]
    if wrong:
        raise InvalidArgument("The read_mask names what there is not.", violations=wrong)
    wanted: dict[str, Any] = {}
    # Shorter paths first: one that asks for a whole message swallows those that lead into it.
    for path in sorted(mask.paths, key=lambda each: each.count(".")) if ALL not in mask.paths else ():
        _add(wanted, path.split("."))
    return wanted


def keep(mask: Mask, message: Message) -> None:
    """Clear what the mask does not ask for."""
    for field, value in message.ListFields() if mask else ():
        inside = mask.get(field.name)
        if inside is None:
            message.ClearField(field.name)
        elif inside:
            for item in value if field.is_repeated else (value,):
                keep(inside, item)


def leads(path: str, message: Descriptor | None) -> bool:
    """Whether a path leads to a field of that message."""
    if len(path) > PATH_CHARS_MAX:
        return False
    for name in path.split("."):
        if message is None or message.GetOptions().map_entry or name not in message.fields_by_name:
            return False
        message = message.fields_by_name[name].message_type
    return True


def _add(wanted: dict[str, Any], names: list[str]) -> None:
    head, *rest = names
    if head in wanted and not wanted[head]:
        return  # all of it is asked for already
    inside = wanted.setdefault(head, {})
    if rest:
        _add(inside, rest)
