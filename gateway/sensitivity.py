"""What the contracts say must not be printed, and where such a field may not be. Pure.

Redaction can only hide what it is given as a field. So a marked field must never travel in a place that is printed
before anybody knows its name, such as a URL, nor be kept where nothing is redacted, such as the outbox or the cache.
Called by `rules`; `breaking` and `plan` take the words from here.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from gateway.contract import EVENT, Binding, Event, Field
from gateway.errors import Violation
from gateway.policy import PolicySet, Rpc
from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import EventPolicy, Sensitivity
from weft_protos import redaction

SECRET: Final = policy_pb2.SENSITIVITY_SECRET
PERSONAL: Final = policy_pb2.SENSITIVITY_PERSONAL

_WORDS: Final[Mapping[Sensitivity.ValueType, str]] = {SECRET: "secret", PERSONAL: "personal"}
# A truth or one of a few names says nothing about anybody: `bool email_verified`.
_SAYS_LITTLE: Final = frozenset({FieldDescriptorProto.TYPE_BOOL, FieldDescriptorProto.TYPE_ENUM})

#: The fields of each message, by its full name.
Types = Mapping[str, Iterable[Field]]


def check(policies: PolicySet) -> Iterator[Violation]:
    """Every field that has no mark but needs one, and every marked one in a place that nothing is hidden in."""
    types: dict[str, list[Field]] = defaultdict(list)
    for field in policies.fields:
        types[field.message].append(field)
    for field in policies.fields:
        yield from telling_names_are_marked(field)
        yield from maps_are_not_marked(field)
    for rpc in policies.rpcs:
        yield from urls_tell_nothing(rpc, types)
        yield from caches_keep_no_secret(rpc, types)
        yield from tools_tell_no_secret(rpc, types)
    for event in policies.events:
        yield from events_carry_no_secret(event, types)
        yield from order_tells_nothing(event, types)


def word(mark: Sensitivity.ValueType) -> str:
    """`secret` or `personal`; empty where the field is printed."""
    return _WORDS.get(mark, "")


def telling_names_are_marked(field: Field) -> Iterator[Violation]:
    """A field whose name tells of a secret or of a person says which of them it is, or that it is neither."""
    said = field.sensitive != policy_pb2.SENSITIVITY_UNSPECIFIED
    if said or field.type in _SAYS_LITTLE or not redaction.tells(field.name):
        return
    yield Violation(
        field.place.at(),
        f"{field.full_name} sounds like a secret or a person, and nothing says whether it may be printed",
        "mark it `[(weft.options.v1.sensitive) = SENSITIVITY_SECRET]`, SENSITIVITY_PERSONAL or SENSITIVITY_NONE",
    )


def maps_are_not_marked(field: Field) -> Iterator[Violation]:
    """The keys of a map stand in the paths of errors, where nothing hides them."""
    if field.is_map and word(field.sensitive):
        message = f"{field.full_name} is a map and {word(field.sensitive)}: errors name the keys of a map"
        yield Violation(field.said_at, message, "write it as a repeated message whose fields are marked")


def urls_tell_nothing(rpc: Rpc, types: Types) -> Iterator[Violation]:
    """URLs stand in logs and spans, in histories and proxies."""
    marked = list(_marked(rpc.method.request, types))
    for binding in rpc.method.bindings:
        for path, field in marked:
            if _in_url(binding, path):
                message = f"{rpc.name} takes {path}, which is {word(field.sensitive)}, in the URL of {binding.template}"
                yield Violation(binding.location, message, 'take it in the body: `post` with `body: "*"`')


def caches_keep_no_secret(rpc: Rpc, types: Types) -> Iterator[Violation]:
    """Memcached has neither users nor passwords."""
    if rpc.policy.cache_ttl is None:
        return
    for path, field in _marked(rpc.method.response, types, lists=True):
        if field.sensitive == SECRET:
            message = f"{rpc.name} is cached and answers {path}, which is secret"
            yield Violation(rpc.places["cache"], message, "remove `cache`")


def tools_tell_no_secret(rpc: Rpc, types: Types) -> Iterator[Violation]:
    """What a model is told goes to whoever runs it, and stays in conversations."""
    if rpc.policy.tool is None:
        return
    for verb, message in (("takes", rpc.method.request), ("answers", rpc.method.response)):
        for path, field in _marked(message, types, lists=True):
            if field.sensitive == SECRET:
                said = f"{rpc.name} is a tool for models and {verb} {path}, which is secret"
                yield Violation(rpc.places["mcp"], said, "remove `mcp`")


def events_carry_no_secret(event: Event, types: Types) -> Iterator[Violation]:
    """Events are stored as they are, in outbox and broker, for as long as these keep them."""
    for path, field in _marked(event.full_name, types, lists=True):
        if field.sensitive == SECRET:
            message = f"{event.full_name} carries {path}, which is secret, into outbox and queues"
            yield Violation(field.said_at, message, "leave it out, or send the name of what holds it")


def order_tells_nothing(event: Event, types: Types) -> Iterator[Violation]:
    """Ordering keys lie open in the envelope, and so in the audit log."""
    for field in types.get(event.full_name, ()):
        if field.name == event.policy.ordering_key and word(field.sensitive):
            place = event.place.below(DescriptorProto.OPTIONS_FIELD_NUMBER, EVENT)
            message = f"{event.full_name} is ordered by {field.name!r}, which is {word(field.sensitive)}"
            fix = "order it by the resource name instead"
            yield Violation(place.at(EventPolicy.ORDERING_KEY_FIELD_NUMBER), message, fix)


def _marked(
    message: str, types: Types, *, lists: bool = False, above: tuple[str, ...] = ()
) -> Iterator[tuple[str, Field]]:
    """The marked fields of a message and of those inside of it, with their paths; those in lists only if asked for."""
    for field in types.get(message, ()):
        if word(field.sensitive):
            yield field.name, field
        elif field.holds and field.holds not in above and (lists or not field.repeated):
            inside = _marked(field.holds, types, lists=lists, above=(*above, message))
            yield from ((f"{field.name}.{path}", found) for path, found in inside)


def _in_url(binding: Binding, path: str) -> bool:
    if binding.body == "*" or path.split(".")[0] == binding.body:
        return path in binding.variables
    return True
