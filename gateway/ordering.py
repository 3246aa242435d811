"""What the contracts say of the order in which events take effect. Pure; called by `rules`.

A worker lets an event wait for the one whose `position` is one less. That one must come to the same queue, and must be
counted by the same rule, or nobody would ever see it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from gateway.contract import Event, Field
from gateway.errors import Violation
from gateway.policy import PolicySet
from weft.options.v1.policy_pb2 import EventPolicy

_COUNTING: Final = FieldDescriptorProto.TYPE_INT64


def check(policies: PolicySet) -> Iterator[Violation]:
    """Every position that cannot be waited for."""
    fields = {field.full_name: field for field in policies.fields}
    together: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in policies.events:
        yield from positions_are_numbers(event, fields.get(f"{event.full_name}.{event.policy.position}"))
        together[event.full_name.rpartition(".")[0], event.policy.ordering_key].append(event)
    for events in together.values():
        yield from neighbours_are_counted(events)


def positions_are_numbers(event: Event, field: Field | None) -> Iterator[Violation]:
    """What counts is one int64."""
    said = event.policy.position
    if said and (field is None or field.repeated or field.type != _COUNTING):
        message = f"{event.full_name} has its position in {said!r}, which is not a single int64 field of it"
        yield Violation(event.said_at(EventPolicy.POSITION_FIELD_NUMBER), message, "name a field `int64 revision`")


def neighbours_are_counted(events: Iterable[Event]) -> Iterator[Violation]:
    """Events of one ordering key are counted together and go to the same queues: a gap would be waited for."""
    counted = [event for event in events if event.policy.position]
    if not counted:
        return
    first = counted[0]
    for event in events:
        key = event.policy.ordering_key
        if not event.policy.position:
            message = f"{event.full_name} is ordered by {key!r} like {first.full_name}, and has no position"
            yield Violation(event.said_at(EventPolicy.POSITION_FIELD_NUMBER), message, "count it with the others")
        elif set(event.policy.queues) != set(first.policy.queues):
            message = f"{event.full_name} goes to other queues than {first.full_name}, with which it is counted"
            fix = "name the same queues for both"
            yield Violation(event.said_at(EventPolicy.QUEUES_FIELD_NUMBER), message, fix)
