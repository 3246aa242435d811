"""What must not be compiled about the cache: a key that tells nothing apart, a tag that nobody or everybody forgets.

Part of the third pass. An answer from the cache skips the method, and what no contract makes outdated lives until it
expires, so both ends are checked against each other: every `invalidates` meets a `cache`, and every tag an end.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from gateway.contract import Field
from gateway.errors import Violation
from gateway.policy import Caching, PolicySet, Rpc
from weft_protos.caching import Template

#: Memcached keeps time in whole seconds, and takes more than 30 days for a date.
TTL_MIN: Final = timedelta(seconds=1)
TTL_MAX: Final = timedelta(days=1)

_TAG: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

Types = Mapping[str, Sequence[Field]]


def check(policies: PolicySet) -> list[Violation]:
    """Every violation about the cache."""
    types: dict[str, list[Field]] = defaultdict(list)
    for field in policies.fields:
        types[field.message].append(field)
    owners = {event.full_name: event.owner for event in policies.events}
    kept = {tag for rpc in policies.rpcs if rpc.policy.caching for tag in rpc.policy.caching.tags}
    forgotten = {said.tag for rpc in policies.rpcs for said in rpc.policy.invalidates}
    found: list[Violation] = []
    for rpc in policies.rpcs:
        if rpc.policy.caching is not None:
            found += cache_is_harmless(rpc)
            found += key_tells_entries_apart(rpc, types)
            found += tags_have_an_end(rpc, rpc.policy.caching, forgotten)
            found += events_are_events(rpc, rpc.policy.caching, owners)
        found += invalidations_meet_a_cache(rpc, kept, types)
    return found


def cache_is_harmless(rpc: Rpc) -> Iterator[Violation]:
    """An answer from the cache skips the method, so the method must do nothing but answer, once."""
    ttl, location, caching = rpc.policy.cache_ttl, rpc.places["cache"], rpc.policy.caching
    if ttl is None or caching is None:
        return
    if not rpc.method.safe:
        message = f"{rpc.name} is cached but has side effects"
        yield Violation(location, message, "say `option idempotency_level = NO_SIDE_EFFECTS`, or remove `cache`")
    if rpc.method.streaming:
        yield Violation(location, f"{rpc.name} is a stream and cached", "remove `cache`: one answer is kept, not many")
    if rpc.policy.public and not caching.shared:
        message = f"{rpc.name} is public and cached for each subject, of which it knows none"
        yield Violation(location, message, "say `shared: true`, or remove `cache`")
    if not TTL_MIN <= ttl <= TTL_MAX:
        message = f"{rpc.name} is cached for {ttl.total_seconds():g} s"
        yield Violation(location, message, f"write a `ttl` from 1 to {TTL_MAX.total_seconds():g} s")
    if caching.negative_ttl is not None and not TTL_MIN <= caching.negative_ttl <= max(ttl, TTL_MIN):
        message = f"{rpc.name} keeps NOT_FOUND for {caching.negative_ttl.total_seconds():g} s"
        yield Violation(location, message, "write a `negative_ttl` from 1 s up to the `ttl`, or leave it out")


def key_tells_entries_apart(rpc: Rpc, types: Types) -> Iterator[Violation]:
    """Without a field in it all requests would get one answer."""
    assert rpc.policy.caching is not None
    yield from _template(rpc, "cache", rpc.policy.caching.key, types)


def tags_have_an_end(rpc: Rpc, caching: Caching, forgotten: set[str]) -> Iterator[Violation]:
    """A tag that no method names under `invalidates` promises what nobody does."""
    location = rpc.places["cache"]
    for tag in caching.tags:
        if not _TAG.fullmatch(tag):
            message = f"{rpc.name} has the cache tag {tag!r}"
            yield Violation(location, message, "write it in lower case, for example `product`")
        elif tag not in forgotten:
            message = f"nobody makes what {rpc.name} keeps about {tag!r} forgotten"
            fix = f'add `invalidates: {{tag: "{tag}" key: "..."}}` to whoever changes it, or remove the tag'
            yield Violation(location, message, fix)
    if len(set(caching.tags)) < len(caching.tags):
        yield Violation(location, f"{rpc.name} names a cache tag twice", "name each tag once")


def events_are_events(rpc: Rpc, caching: Caching, owners: Mapping[str, str]) -> Iterator[Violation]:
    """What makes an entry outdated is an event that leaves an outbox."""
    for event in caching.events:
        if event not in owners:
            message = f"{rpc.name} is outdated by {event!r}, which is no event"
            fix = f"use one of {', '.join(sorted(owners)) or 'the events, of which there is none yet'}"
            yield Violation(rpc.places["cache"], message, fix)


def invalidations_meet_a_cache(rpc: Rpc, kept: set[str], types: Types) -> Iterator[Violation]:
    """Whoever makes something forgotten changes something, and that is kept somewhere."""
    location = rpc.places["invalidates"]
    for said in rpc.policy.invalidates:
        if said.tag not in kept:
            message = f"{rpc.name} invalidates {said.tag!r}, and no `cache` has that tag"
            yield Violation(location, message, f"use one of {', '.join(sorted(kept)) or 'the tags; there is none yet'}")
        yield from _template(rpc, "invalidates", said.key, types)
    if rpc.policy.invalidates and rpc.method.safe:
        message = f"{rpc.name} has no side effects and invalidates"
        yield Violation(location, message, "remove `invalidates`, or NO_SIDE_EFFECTS where it is not true")
    if rpc.policy.invalidates and rpc.method.streaming:
        fix = "remove it: only a call that ends with one answer says when it has written"
        yield Violation(location, f"{rpc.name} is a stream and invalidates", fix)


def _template(rpc: Rpc, part: str, text: str, types: Types) -> Iterator[Violation]:
    location = rpc.places["cache" if part == "cache" else "invalidates"]
    example = "for example `{name}`, with a string field of the request"
    try:
        fields = Template.of(text).fields
    except ValueError:
        yield Violation(location, f"{rpc.name} has the {part} key {text!r}", f"write it as text and fields, {example}")
        return
    if not fields:
        message = f"{rpc.name} has the {part} key {text!r}, which is the same for every request"
        yield Violation(location, message, f"write one that tells them apart, {example}")
    for path in fields:
        if not _is_string(rpc.method.request, path, types):
            message = f"{rpc.name} has the {part} key {text!r}, and {path} is no single string field of its request"
            yield Violation(location, message, f"name one that is, {example}")


def _is_string(message: str, path: str, types: Types) -> bool:
    head, _, rest = path.partition(".")
    field = next((field for field in types.get(message, ()) if field.name == head), None)
    if field is None or field.repeated:
        return False
    return _is_string(field.holds, rest, types) if rest else field.type == FieldDescriptorProto.TYPE_STRING
