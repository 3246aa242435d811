"""What a change of policy takes away from those who call or listen already. Pure.

Called by `compiler.check` with the effective policies of a baseline and of the contracts at hand. Each rule names one
way in which a caller that was served before is refused, slowed down or left waiting now; `buf breaking` looks after
messages and methods, and after nothing of this, because to it an option is only a comment.
"""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

from buf.validate import validate_pb2
from gateway import sensitivity
from gateway.contract import Event, Field
from gateway.errors import Violation
from gateway.policy import CRITICALITIES, EdgeRules, PolicySet, Rpc, Slo
from weft.options.v1.policy_pb2 import EventPolicy, MethodPolicy
from weft_protos.locations import Location

_FOREVER: Final = timedelta.max


def check(before: PolicySet, after: PolicySet) -> tuple[Violation, ...]:
    """Every breaking change of policy, sorted by the file and line that says it now."""
    rpcs = {rpc.name: rpc for rpc in before.rpcs}
    events = {event.full_name: event for event in before.events}
    found = [
        violation
        for rpc in after.rpcs
        if rpc.name in rpcs
        for rule in RPC_RULES
        for violation in rule(rpcs[rpc.name], rpc)
    ]
    found += events_stay(before, after)
    found += payloads_stay_valid(before, after)
    found += [
        violation
        for event in after.events
        if event.full_name in events
        for rule in EVENT_RULES
        for violation in rule(events[event.full_name], event)
    ]
    if _has_consistency(before):
        found += [each for rpc in after.rpcs if rpc.name in rpcs for each in consistency_is_kept(rpcs[rpc.name], rpc)]
    fields = {field.full_name: field for field in before.fields}
    found += [
        violation
        for field in after.fields
        if field.full_name in fields
        for violation in mark_is_kept(fields[field.full_name], field)
    ]
    if before.edge is not None and after.edge is not None:
        found += [violation for rule in EDGE_RULES for violation in rule(before.edge, after.edge)]
    return tuple(sorted(set(found)))


def access_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Who was let in is let in. A caller needs any one of the scopes, so another one more takes nothing away."""
    was, now, location = before.policy, after.policy, after.places["access"]
    if now.public:
        return
    scopes = " or ".join(now.scopes)
    if was.public:
        message = f"{after.name} was public and demands {scopes}: callers without a token are refused with 401"
        yield Violation(location, message, "keep `public: true`, or add another method")
        return
    lost = [scope for scope in was.scopes if scope not in now.scopes]
    if lost:
        message = (
            f"{after.name} demands {scopes or 'a scope that it does not name'} and took {' or '.join(lost)} before: "
            "tokens with no other scope are refused with 403"
        )
        kept = ", ".join(f'`scopes: "{scope}"`' for scope in lost)
        yield Violation(location, message, f"keep {kept}; one of a method's scopes is enough")


def routes_are_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """A path that answered answers, and takes the same body."""
    now = {(binding.verb, binding.template): binding for binding in after.method.bindings}
    location = after.method.bindings[0].location if after.method.bindings else after.method.place.at()
    for binding in before.method.bindings:
        route = f"{binding.verb} {binding.template}"
        kept = now.get((binding.verb, binding.template))
        if kept is None:
            message = f"{after.name} was {route}: JSON callers of that path get 404"
            yield Violation(location, message, "keep it, the new one beside it in `additional_bindings`")
        elif kept.body != binding.body:
            message = f"{after.name} takes {route} with the body {kept.body!r}, before with {binding.body!r}"
            yield Violation(kept.location, f"{message}: JSON callers are misread", f"keep `body: {binding.body!r}`")


def limit_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Whoever kept the old limit keeps the new one."""
    was, now, location = before.policy.rate_limit, after.policy.rate_limit, after.places["rate_limit"]
    if now is None:
        return
    if was is None:
        message = f"{after.name} allows {now} and had no limit: callers above it are refused with 429"
        yield Violation(location, message, "choose a limit above what callers use today, and say so to them")
        return
    if now.requests * was.per < was.requests * now.per:
        message = f"{after.name} allows {now}, before {was}: callers between the two are refused with 429"
        yield Violation(location, message, f"keep {was.requests} requests per {was.per.total_seconds():g} s or more")
    elif now.burst < was.burst:
        message = f"{after.name} allows bursts of {now.burst}, before {was.burst}: callers that pause are refused"
        yield Violation(location, message, f"keep `burst: {was.burst}` or more")
    if now.key != was.key and before.policy.public == after.policy.public:
        message = f"{after.name} counts for each {now.key}, before for each {was.key}"
        yield Violation(
            location, f"{message}: callers that had a bucket each now share one", f"keep KEY_{was.key.upper()}"
        )


def timeout_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """A call that was given the time it takes is given it."""
    was, now = before.policy.timeout or _FOREVER, after.policy.timeout or _FOREVER
    if now < was:
        old = "as long as they took" if was == _FOREVER else f"{was.total_seconds():g} s"
        message = f"{after.name} gives calls {now.total_seconds():g} s, before {old}: longer ones end with 504"
        fix = "keep it without a timeout" if was == _FOREVER else f"keep {was.total_seconds():g} s or more"
        yield Violation(after.places["timeout"], message, fix)


def retry_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Faults that callers were spared are still kept from them."""
    was, now = before.policy.max_attempts or 1, after.policy.max_attempts or 1
    if now < was:
        message = f"{after.name} is tried {_times(now)}, before {_times(was)}: callers meet faults they were spared"
        yield Violation(after.places["retry"], message, f"keep `retry: {{max_attempts: {was}}}`")


def hedging_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Who was spared waiting for an instance that hangs is spared it, no later than before."""
    was, now = before.policy.hedging_delay, after.policy.hedging_delay
    if was is not None and (now is None or now > was):
        late = "never" if now is None else f"after {now.total_seconds():g} s"
        message = f"{after.name} is hedged {late}, before after {was.total_seconds():g} s"
        fix = f"keep a `delay` of {was.total_seconds():g} s or less"
        yield Violation(after.places["hedging"], f"{message}: callers wait for an instance that hangs", fix)


def answers_stay_as_fresh(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Who reads what it has written reads it no later than before."""
    was, now = before.policy.cache_ttl or timedelta(0), after.policy.cache_ttl or timedelta(0)
    if now > was:
        old = f"{was.total_seconds():g} s old" if was else "fresh"
        message = (
            f"{after.name} may answer what is {now.total_seconds():g} s old, before {old}: callers read stale data"
        )
        fix = f"keep a `ttl` of {was.total_seconds():g} s or less" if was else "leave out `cache`"
        yield Violation(after.places["cache"], message, fix)


def consistency_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Who was promised an answer that is so new is given none that is older."""
    was, now = before.policy.consistency, after.policy.consistency
    # Where neither says it, it follows from the cache, and `answers_stay_as_fresh` tells.
    if now.max_s > was.max_s and (before.policy.consistency_said or after.policy.consistency_said):
        message = f"{after.name} promises {now}, before {was}: callers read what is no longer true"
        fix = "keep the level" if was.level != "bounded" else f"keep a `max_staleness` of {was.max_s:g} s or less"
        yield Violation(after.places["consistency"], message, fix)


def request_size_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """A request that was taken is not too large now.

    A size that is said for the first time is compared with nothing: before it the gateway's own limit held, which no
    contract promised.
    """
    was, now = before.policy.max_request_bytes, after.policy.request_bytes
    if was is not None and now < was:
        message = f"{after.name} takes requests of up to {now} bytes, before {was}: larger ones are refused with 413"
        yield Violation(after.places["max_request_bytes"], message, f"keep `max_request_bytes: {was}` or more")


def criticality_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """A call that was served while others were refused is served. What the contract never said, it never promised."""
    was, now = before.policy.criticality, after.policy.criticality or "default"
    if was is not None and CRITICALITIES.index(now) < CRITICALITIES.index(was):
        message = f"{after.name} is {now}, before {was}: under overload its callers are refused earlier"
        yield Violation(after.places["criticality"], message, f"keep `criticality: CRITICALITY_{was.upper()}`")


def errors_keep_their_code(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """Who handles an error by its code handles it still. One that is no longer given harms nobody."""
    now = {error.reason: error.code for error in after.policy.errors}
    for error in before.policy.errors:
        code = now.get(error.reason, error.code)
        if code != error.code:
            message = f"{after.name} fails with {code} for {error.reason}, before with {error.code}"
            fix = f'keep `code: "{error.code}"`, or choose another reason'
            yield Violation(after.places["errors"], f"{message}: callers that look at the code miss it", fix)


def slo_is_kept(before: Rpc, after: Rpc) -> Iterator[Violation]:
    """What callers may count on is not taken back. What the contract never said, it never promised."""
    was, now = before.policy.slo or Slo(None, None, None), after.policy.slo or Slo(None, None, None)
    fewer = (now.availability or 0) < (was.availability or 0)
    slower = (now.latency or 0) < (was.latency or 0) or (now.threshold or _FOREVER) > (was.threshold or _FOREVER)
    if fewer or slower:
        promised = " and ".join(was.words())
        message = f"{after.name} promised {promised}, and promises less: callers counted on it"
        yield Violation(after.places["slo"], message, f"keep an `slo` of {promised}")


def events_stay(before: PolicySet, after: PolicySet) -> Iterator[Violation]:
    """What listeners wait for goes on being an event: those in outbox and queues still have to be delivered."""
    now = {event.full_name for event in after.events}
    for event in before.events:
        if event.full_name not in now:
            message = f"{event.full_name} is no event any more: what lies in outbox and queues cannot be delivered"
            yield Violation(event.place.at(), message, "keep the message and its `event` option")


def payloads_stay_valid(before: PolicySet, after: PolicySet) -> Iterator[Violation]:
    """Events that were written under the old rules keep the new ones: they lie in outbox, queues and audit log."""
    was, now = _pool(before.descriptors), _pool(after.descriptors)
    known = {event.full_name for event in before.events}
    for event in after.events:
        if event.full_name not in known:
            continue
        old, new = (_rules(pool.FindMessageTypeByName(event.full_name)) for pool in (was, now))
        for path, rules in new.items():
            # A field that is new was never set: any rule on it may be one that old events break.
            if rules and rules != old.get(path, ""):
                said = path or "the message as a whole"
                message = f"{event.full_name} has other rules for {said}: events written before may break them"
                fix = "leave the rules of a written event as they are; state them where the event is made"
                yield Violation(_field(event, path), message, fix)


def _has_consistency(policies: PolicySet) -> bool:
    """Whether these contracts could say it: where they could not, nothing was promised."""
    pool = _pool(policies.descriptors)
    try:
        policy = pool.FindMessageTypeByName(MethodPolicy.DESCRIPTOR.full_name)
    except KeyError:
        return False
    return MethodPolicy.DESCRIPTOR.fields_by_number[MethodPolicy.CONSISTENCY_FIELD_NUMBER].name in policy.fields_by_name


def _pool(descriptors: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool


def _rules(message: Descriptor, above: str = "", within: tuple[str, ...] = ()) -> dict[str, str]:
    """The protovalidate rules of a message and of all inside it, as text, by path; a type in itself is not followed."""
    found = {above.rstrip("."): str(message.GetOptions().Extensions[validate_pb2.message])}
    for field in message.fields:
        path, kind = f"{above}{field.name}", field.message_type
        if kind is not None and kind.full_name not in (*within, message.full_name):
            found |= _rules(kind, f"{path}.", (*within, message.full_name))
        # A field's own rules and those of its type stand at one path.
        found[path] = f"{field.GetOptions().Extensions[validate_pb2.field]}{found.get(path, '')}"
    return found


def _field(event: Event, path: str) -> Location:
    names = list(event.fields)
    head = path.split(".")[0]
    if head not in names:
        return event.place.at()
    return event.place.at(DescriptorProto.FIELD_FIELD_NUMBER, names.index(head))


def routing_is_kept(before: Event, after: Event) -> Iterator[Violation]:
    """Events go on reaching the queues that were bound to them."""
    was, now = before.policy.routing_key, after.policy.routing_key
    if now != was:
        message = f"{after.full_name} has the routing key {now!r}, before {was!r}: queues bound to that starve"
        yield Violation(after.said_at(EventPolicy.ROUTING_KEY_FIELD_NUMBER), message, f"keep {was!r}, or add an event")


def ordering_is_kept(before: Event, after: Event) -> Iterator[Violation]:
    """What listeners were given in order stays in that order."""
    was, now = before.policy.ordering_key, after.policy.ordering_key
    if now != was:
        message = (
            f"{after.full_name} is ordered by {now!r}, before by {was!r}: events of one {was} may overtake another"
        )
        yield Violation(after.said_at(EventPolicy.ORDERING_KEY_FIELD_NUMBER), message, f"keep {was!r}, or add an event")


def queues_are_kept(before: Event, after: Event) -> Iterator[Violation]:
    """A worker that was sent an event is sent it."""
    for queue in before.policy.queues:
        if queue not in after.policy.queues:
            message = (
                f"{after.full_name} no longer goes to the queue {queue!r}: its worker hears nothing of it any more"
            )
            yield Violation(after.said_at(EventPolicy.QUEUES_FIELD_NUMBER), message, f'keep `queues: "{queue}"`')


def mark_is_kept(before: Field, after: Field) -> Iterator[Violation]:
    """What was hidden stays hidden: those whom it is about were never asked."""
    was, now = sensitivity.word(before.sensitive), sensitivity.word(after.sensitive)
    if not was or now in (was, sensitivity.word(sensitivity.SECRET)):
        return
    lost = "it may be stored and sent on in events" if now else "logs, spans and the audit log show it"
    message = f"{after.full_name} is {now or 'not sensitive'}, before {was}: {lost}"
    mark = f"SENSITIVITY_{was.upper()}"
    yield Violation(after.said_at, message, f"keep `[(weft.options.v1.sensitive) = {mark}]`")


def origins_are_kept(before: EdgeRules, after: EdgeRules) -> Iterator[Violation]:
    """A page that could call can call."""
    for origin in before.origins:
        any_port = re.sub(r":[0-9]+$", "", origin) + ":*"
        if origin not in after.origins and any_port not in after.origins:
            message = f"pages of {origin} may no longer call: their browsers refuse it"
            yield Violation(after.places["origins"], message, f'keep `origins: "{origin}"`')


def guard_is_kept(before: EdgeRules, after: EdgeRules) -> Iterator[Violation]:
    """An address behind which many callers are gets through what it got through."""
    was, now, location = before.address_limit, after.address_limit, after.places["address_limit"]
    if now is None or was is None:
        return
    if now.requests * was.per < was.requests * now.per:
        message = f"one address may ask {now}, before {was}: addresses between the two are refused with 429"
        yield Violation(location, message, f"keep {was.requests} requests per {was.per.total_seconds():g} s or more")
    elif now.burst < was.burst:
        message = f"one address may ask {now.burst} at once, before {was.burst}: addresses that pause are refused"
        yield Violation(location, message, f"keep `burst: {was.burst}` or more")


def _times(count: int) -> str:
    return "once" if count == 1 else f"up to {count} times"


RPC_RULES: Final[tuple[Callable[[Rpc, Rpc], Iterator[Violation]], ...]] = (
    access_is_kept,
    routes_are_kept,
    limit_is_kept,
    timeout_is_kept,
    retry_is_kept,
    hedging_is_kept,
    answers_stay_as_fresh,
    request_size_is_kept,
    criticality_is_kept,
    errors_keep_their_code,
    slo_is_kept,
)
EVENT_RULES: Final[tuple[Callable[[Event, Event], Iterator[Violation]], ...]] = (
    routing_is_kept,
    ordering_is_kept,
    queues_are_kept,
)
EDGE_RULES: Final[tuple[Callable[[EdgeRules, EdgeRules], Iterator[Violation]], ...]] = (
    origins_are_kept,
    guard_is_kept,
)
