"""Third pass: what must not be compiled.

Every rule looks at every RPC or event, and all violations are reported together, each with file, line and the fix, so
that one run shows the whole work. The compiler refuses to write anything while there is one.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, MethodDescriptorProto, MethodOptions
from google.rpc import code_pb2

from gateway import caching, ordering, sensitivity
from gateway.contract import EVENT, HTTP, Binding, Event
from gateway.errors import Violation
from gateway.policy import EdgeRules, PolicySet, RateLimit, Rpc
from weft.options.v1.policy_pb2 import EventPolicy
from weft_protos import mesh_parts
from weft_protos import policy as shared
from weft_protos.locations import Location
from weft_protos.manifests import GATEWAYS_MAX

#: Attempts in all. More than five multiply a fault instead of bridging it.
ATTEMPTS_MIN, ATTEMPTS_MAX = 2, 5
#: Envoy refuses buckets that fill faster.
FILL_MIN: Final = timedelta(milliseconds=50)
FILL_MAX: Final = timedelta(days=1)
#: A unary call that may take longer is work for a long-running operation.
TIMEOUT_MAX: Final = timedelta(minutes=5)
#: Below it, the gateway would send attempts that only look late because it is busy itself.
HEDGING_DELAY_MIN: Final = timedelta(milliseconds=10)
#: Below it even a total outage would not burn the budget at the rate that pages.
AVAILABILITY_MIN: Final = 95.0
LATENCY_MIN: Final = 80.0
#: The share of a budget that is smaller is no more than one call in 100,000.
OBJECTIVE_MAX: Final = 99.999
#: Bounds of the gateways' histogram (Envoy's own), as far as an objective makes sense of them.
THRESHOLDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000)
#: Below it no replica is known to be new enough: its age is measured a few times a second.
STALENESS_MIN: Final = timedelta(seconds=1)
STALENESS_MAX: Final = timedelta(days=1)
#: Work queues that a contract may name.
QUEUES: Final = tuple(one.name for one in mesh_parts.WORKERS if not one.of_all)
#: Each different pause is a retry queue of every worker that receives the event.
RETRY_PAUSE_MIN_S, RETRY_PAUSE_MAX_S, RETRY_PAUSES_MAX = 0.1, 3600.0, 8
#: More deliveries only keep from a human what will not mend itself.
DELIVERIES_MAX: Final = 20
#: What a relay that publishes late, and whoever looks after it, may need.
RETENTION_MIN_S: Final = 3600.0
#: What a method may fail with.
CODES: Final = tuple(name for name in sorted(code_pb2.Code.keys()) if name != "OK")
#: Longest reason (AIP-193).
REASON_CHARS_MAX: Final = 63

#: Browsers cut it at a day at most (Firefox; Chromium at two hours).
PREFLIGHT_AGE_MAX: Final = timedelta(days=1)
#: Ports that an origin never names (RFC 6454, 6.2).
DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
PORT_MAX: Final = 65_535
#: Where the policy of the edge belongs, where no file says it.
EDGE_HOME: Final = Location("protos/weft/mesh/v1/edge.proto", 1)

_LABEL: Final = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_AUTHORITY = re.compile(rf"(?P<host>{_LABEL}(\.{_LABEL})*|\[[0-9a-f:.]+\])(:(?P<port>\*|[0-9]{{1,5}}))?")
_SERVICE = re.compile(r"weft\.[a-z][a-z0-9]*\.v[1-9][0-9]*\.[A-Z][A-Za-z0-9]*")
_SCOPE = re.compile(r"[a-z]+\.[a-z]+")
_ROUTING_KEY = re.compile(r"[a-z][a-z0-9]*\.[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_REASON = re.compile(r"[A-Z][A-Z0-9_]+[A-Z0-9]")

_METHOD_OPTIONS: Final = MethodDescriptorProto.OPTIONS_FIELD_NUMBER


def check(policies: PolicySet) -> tuple[Violation, ...]:
    """Every violation in the contracts, sorted by file and line."""
    found = [violation for rpc in policies.rpcs for rule in RPC_RULES for violation in rule(rpc)]
    found += [violation for event in policies.events for rule in EVENT_RULES for violation in rule(event)]
    found += bindings_are_unique(policies.rpcs)
    found += routing_keys_are_unique(policies.events)
    found += sensitivity.check(policies)
    found += caching.check(policies)
    found += ordering.check(policies)
    found += edge_is_said_once(policies.edges)
    found += [violation for edge in policies.edges for violation in origins_are_origins(edge)]
    found += [violation for edge in policies.edges for violation in address_limit_makes_sense(edge, policies.rpcs)]
    return tuple(sorted(set(found)))


def package_names_the_owner(rpc: Rpc) -> Iterator[Violation]:
    """The mesh service is read from the package, so the package must have the form."""
    if not _SERVICE.fullmatch(rpc.method.service):
        message = f"{rpc.method.service} does not tell which mesh service serves it"
        yield Violation(rpc.method.place.at(), message, "name the package weft.<service>.v<number>")


def access_is_said(rpc: Rpc) -> Iterator[Violation]:
    """Deny by default: a method is public or names scopes, one of the two."""
    policy, location = rpc.policy, rpc.places["access"]
    if not policy.public and not policy.scopes:
        yield Violation(
            rpc.method.place.at(),
            f"{rpc.name} does not say who may call it",
            'add `option (weft.options.v1.policy) = {scopes: "<service>.<verb>"}`, or `public: true`',
        )
    if policy.public and policy.scopes:
        message = f"{rpc.name} is public and names scopes"
        yield Violation(location, message, "keep `public: true` or the scopes, not both")
    for scope in policy.scopes:
        if not _SCOPE.fullmatch(scope):
            message = f"{rpc.name} names the scope {scope!r}"
            yield Violation(location, message, "write it as <service>.<verb>, for example `orders.read`")
    if len(set(policy.scopes)) < len(policy.scopes):
        yield Violation(location, f"{rpc.name} names a scope twice", "name each scope once")


def http_binding_is_sound(rpc: Rpc) -> Iterator[Violation]:
    """Every unary method has a JSON form, and the form says what HTTP means by it."""
    method = rpc.method
    if not method.bindings and not method.streaming:
        fix = 'add `option (google.api.http) = {post: "/v1/..." body: "*"}`'
        yield Violation(method.place.at(), f"{rpc.name} has no HTTP binding", fix)
    if method.bindings and method.client_streaming:
        fix = "remove google.api.http: JSON cannot carry a stream of requests"
        yield Violation(method.place.at(_METHOD_OPTIONS, HTTP), f"{rpc.name} streams its requests", fix)
    for binding in method.bindings:
        yield from _binding(rpc, binding)


def _binding(rpc: Rpc, binding: Binding) -> Iterator[Violation]:
    location, fields = binding.location, rpc.method.request_fields
    if binding.verb not in ("GET", "PUT", "POST", "DELETE", "PATCH"):
        message = f"{rpc.name} is bound to {binding.verb}"
        yield Violation(location, message, "use get, put, post, delete or patch")
    if not binding.template.startswith("/v"):
        message = f"{rpc.name} is bound to the path {binding.template!r}"
        yield Violation(location, message, "begin the path with the version, for example `/v1/orders`")
    if binding.verb in ("GET", "DELETE") and binding.body:
        fix = "remove `body`: its fields travel in path and query"
        yield Violation(location, f"{rpc.name} has a {binding.verb} with a body", fix)
    if binding.verb == "GET" and not rpc.method.safe:
        message = f"{rpc.name} is bound to GET, which clients and proxies repeat at will"
        yield Violation(location, message, "say `option idempotency_level = NO_SIDE_EFFECTS`, or use post")
    if binding.body not in ("", "*") and binding.body not in fields:
        message = f"{rpc.name} takes its body from {binding.body!r}, which its request does not have"
        yield Violation(location, message, f'use "*" or one of {", ".join(sorted(fields))}')
    for variable in binding.variables:
        if variable.split(".")[0] not in fields:
            message = f"{rpc.name} binds the path variable {variable!r}, which its request does not have"
            yield Violation(location, message, f"use one of {', '.join(sorted(fields))}")


def bindings_are_unique(rpcs: Iterable[Rpc]) -> Iterator[Violation]:
    """Two methods on one verb and path: only one of them would ever be called."""
    owners: dict[tuple[str, str], list[tuple[Rpc, Binding]]] = defaultdict(list)
    for rpc in rpcs:
        for binding in rpc.method.bindings:
            shape = re.sub(r"\{[^}=]+=([^}]*)\}", r"\1", binding.template)
            owners[binding.verb, re.sub(r"\{[^}]+\}", "*", shape)].append((rpc, binding))
    for (verb, path), bound in owners.items():
        for rpc, binding in bound[1:]:
            message = f"{rpc.name} is bound to {verb} {path}, as {bound[0][0].name} is"
            yield Violation(binding.location, message, "give it a path of its own, for example with a `:verb`")


def retry_is_harmless(rpc: Rpc) -> Iterator[Violation]:
    """A repeated attempt may have been carried out already, so the method must bear it."""
    attempts, location = rpc.policy.max_attempts, rpc.places["retry"]
    if attempts is None:
        return
    if not ATTEMPTS_MIN <= attempts <= ATTEMPTS_MAX:
        message = f"{rpc.name} asks for {attempts} attempts"
        yield Violation(location, message, f"write `max_attempts` from {ATTEMPTS_MIN} to {ATTEMPTS_MAX}")
    if not rpc.method.idempotent and "request_id" not in rpc.method.request_fields:
        message = f"{rpc.name} is retried but not safe to repeat"
        yield Violation(location, message, "set `idempotency_level`, or add `string request_id` (AIP-155)")
    if rpc.method.streaming:
        message = f"{rpc.name} is a stream and retried"
        yield Violation(location, message, "remove `retry`: a stream that has begun cannot be repeated")


def hedging_is_harmless(rpc: Rpc) -> Iterator[Violation]:
    """Two instances may carry out a hedged call at the same time, so it must do nothing but answer."""
    delay, timeout, location = rpc.policy.hedging_delay, rpc.policy.timeout, rpc.places["hedging"]
    if delay is None:
        return
    if rpc.method.streaming:
        message = f"{rpc.name} is a stream and hedged"
        yield Violation(location, message, "remove `hedging`: of two streams nobody knows which to believe")
        return
    if not rpc.method.safe:
        message = f"{rpc.name} is hedged but has side effects"
        yield Violation(location, message, "say `option idempotency_level = NO_SIDE_EFFECTS`, or remove `hedging`")
    if rpc.policy.max_attempts is None:
        message = f"{rpc.name} is hedged and has no second attempt"
        yield Violation(location, message, "add `retry: {max_attempts: 2}`, or remove `hedging`")
    if delay < HEDGING_DELAY_MIN or (timeout and delay >= timeout):
        message = f"{rpc.name} is hedged after {delay.total_seconds():g} s"
        least = f"{HEDGING_DELAY_MIN.total_seconds():g} s"
        yield Violation(location, message, f"write a `delay` of {least} or more, and below its timeout")


def consistency_is_kept_by_somebody(rpc: Rpc) -> Iterator[Violation]:
    """Only an answer can be old: a write is the leader's, and a promise that the cache breaks is none."""
    policy, location = rpc.policy, rpc.places["consistency"]
    if not policy.consistency_said:
        return
    level, most = policy.consistency.level, policy.max_staleness
    if level != "strong" and (not rpc.method.safe or rpc.method.streaming):
        what = "is a stream" if rpc.method.streaming else "has side effects"
        fix = "leave out `consistency`: it is answered by the leader"
        if not rpc.method.streaming:
            fix = f"say `option idempotency_level = NO_SIDE_EFFECTS`, or {fix}"
        yield Violation(location, f"{rpc.name} {what} and is not LEVEL_STRONG", fix)
    if level == "strong" and policy.cache_ttl is not None:
        message = f"{rpc.name} promises the leader's answer and is cached"
        fix = "say LEVEL_BOUNDED_STALENESS or LEVEL_EVENTUAL, or remove `cache`"
        yield Violation(location, message, fix)
    if level != "bounded" and most is not None:
        message = f"{rpc.name} has a `max_staleness` and is not LEVEL_BOUNDED_STALENESS"
        yield Violation(location, message, "remove `max_staleness`, or say LEVEL_BOUNDED_STALENESS")
    if level == "bounded" and not STALENESS_MIN <= (most or timedelta(0)) <= STALENESS_MAX:
        message = f"{rpc.name} may be {(most or timedelta(0)).total_seconds():g} s old"
        fix = f"write a `max_staleness` from {STALENESS_MIN.total_seconds():g} s to {STALENESS_MAX.total_seconds():g} s"
        yield Violation(location, message, fix)


def rate_limit_makes_sense(rpc: Rpc) -> Iterator[Violation]:
    """A limit that admits nothing, everything or the wrong caller is worse than none, for it looks like one."""
    limit, location = rpc.policy.rate_limit, rpc.places["rate_limit"]
    if limit is None:
        if rpc.policy.public:
            message = f"{rpc.name} is public and has no rate limit"
            yield Violation(rpc.method.place.at(), message, "add `rate_limit`: anybody can call it")
        return
    yield from _bucket(rpc.name, limit, location)
    if rpc.policy.public and limit.key == "subject":
        message = f"{rpc.name} is public but limited by subject"
        yield Violation(location, message, "use KEY_ADDRESS: a public call has no subject")


def _bucket(name: str, limit: RateLimit, location: Location) -> Iterator[Violation]:
    if limit.requests == 0:
        yield Violation(location, f"{name} allows 0 requests", "write `requests` of 1 or more")
    if not FILL_MIN <= limit.per <= FILL_MAX:
        message = f"{name} is limited per {limit.per.total_seconds():g} s"
        yield Violation(location, message, f"write `per` from 0.05 s to {FILL_MAX.total_seconds():g} s")
    if limit.burst < limit.requests:
        message = f"{name} has a burst of {limit.burst}, below its {limit.requests} requests"
        yield Violation(location, message, "write a `burst` of at least `requests`")
    if 0 < limit.burst < GATEWAYS_MAX:
        message = f"{name} has a bucket of {limit.burst}, which divided among gateways lets nothing through"
        yield Violation(location, message, f"write a `burst` of at least {GATEWAYS_MAX}")


def timeout_is_said(rpc: Rpc) -> Iterator[Violation]:
    """A unary call without a deadline holds a thread for ever."""
    timeout, location = rpc.policy.timeout, rpc.places["timeout"]
    unary = not rpc.method.streaming
    if timeout is None:
        if unary:
            message = f"{rpc.name} has no timeout"
            yield Violation(rpc.method.place.at(), message, "add `timeout` to it or to its service's defaults")
    elif timeout < timedelta(0):
        yield Violation(location, f"{rpc.name} has a negative timeout", "write a timeout above 0")
    elif unary and not timedelta(0) < timeout <= TIMEOUT_MAX:
        message = f"{rpc.name} has a timeout of {timeout.total_seconds():g} s"
        yield Violation(location, message, f"write a timeout above 0 and up to {TIMEOUT_MAX.total_seconds():g} s")


def request_size_makes_sense(rpc: Rpc) -> Iterator[Violation]:
    """A size that lets nothing through, or more than the gateway takes, is not the one that holds."""
    most, location = rpc.policy.max_request_bytes, rpc.places["max_request_bytes"]
    if most is None:
        return
    if not 0 < most <= shared.REQUEST_BYTES_MAX:
        fix = f"write `max_request_bytes` from 1 to {shared.REQUEST_BYTES_MAX}"
        yield Violation(location, f"{rpc.name} takes requests of up to {most} bytes", fix)
    if rpc.method.client_streaming:
        fix = "remove it: the gateway counts whole requests, and a stream of them has no end"
        yield Violation(location, f"{rpc.name} streams its requests and has a max_request_bytes", fix)


def tool_answers_once(rpc: Rpc) -> Iterator[Violation]:
    """A model calls a tool and reads its answer; nobody reads the second one."""
    if rpc.policy.tool is not None and rpc.method.streaming:
        yield Violation(rpc.places["mcp"], f"{rpc.name} is a stream and a tool for models", "remove `mcp`")


def slo_can_be_watched(rpc: Rpc) -> Iterator[Violation]:
    """An objective that nothing can miss, or that nothing measures, is a promise nobody keeps."""
    slo, location, timeout = rpc.policy.slo, rpc.places["slo"], rpc.policy.timeout
    if slo is None:
        return
    if slo.availability is None and slo.latency is None:
        yield Violation(location, f"{rpc.name} has an slo without an objective", "write `availability: 99.9`")
    if slo.availability is not None and not AVAILABILITY_MIN <= slo.availability <= OBJECTIVE_MAX:
        fix = f"write `availability` from {AVAILABILITY_MIN:g} to {OBJECTIVE_MAX}, in percent"
        yield Violation(location, f"{rpc.name} has an availability of {slo.availability:g} %", fix)
    if slo.latency is None or slo.threshold is None:
        return
    threshold_ms = slo.threshold / timedelta(milliseconds=1)
    if rpc.method.streaming:
        message = f"{rpc.name} is a stream and has an objective of latency"
        yield Violation(location, message, "say an `slo` without `latency` on it: a stream takes as long as it is read")
    if not LATENCY_MIN <= slo.latency <= OBJECTIVE_MAX:
        fix = f"write `percent` from {LATENCY_MIN:g} to {OBJECTIVE_MAX}"
        yield Violation(location, f"{rpc.name} wants {slo.latency:g} % of its calls to be in time", fix)
    if threshold_ms not in THRESHOLDS_MS:
        message = f"{rpc.name} has a threshold of {threshold_ms:g} ms, by which no gateway counts"
        yield Violation(location, message, f"use one of {', '.join(map(str, THRESHOLDS_MS))} ms")
    elif timeout and slo.threshold >= timeout:
        message = f"{rpc.name} has a threshold of {threshold_ms:g} ms, no less than its timeout"
        yield Violation(location, message, "choose a lower `threshold`: what takes longer does not succeed at all")


def event_is_routed(event: Event) -> Iterator[Violation]:
    """An event that no queue or no order can be found for is lost or overtaken."""
    policy, place = event.policy, event.place.below(DescriptorProto.OPTIONS_FIELD_NUMBER, EVENT)
    key = place.at(EventPolicy.ROUTING_KEY_FIELD_NUMBER)
    if not _ROUTING_KEY.fullmatch(policy.routing_key) or policy.routing_key.split(".")[0] != event.owner:
        message = f"{event.full_name} has the routing key {policy.routing_key!r}"
        yield Violation(key, message, f"write it as {event.owner}.<noun>.<verb>, for example `orders.order.placed`")
    if not event.fields.get(policy.ordering_key, False):
        location = place.at(EventPolicy.ORDERING_KEY_FIELD_NUMBER)
        strings = ", ".join(sorted(name for name, single in event.fields.items() if single)) or "none yet"
        message = f"{event.full_name} is ordered by {policy.ordering_key!r}, which is not a single string field of it"
        yield Violation(location, message, f"name one of its string fields ({strings})")
    queues = place.at(EventPolicy.QUEUES_FIELD_NUMBER)
    for queue in policy.queues:
        if queue not in QUEUES:
            message = f"{event.full_name} goes to the queue {queue!r}"
            of_all = queue in mesh_parts.OF_ALL
            fix = f"remove it: every event reaches {queue}" if of_all else f"use one of {', '.join(QUEUES)}"
            yield Violation(queues, message, fix)
    if len(set(policy.queues)) < len(policy.queues):
        yield Violation(queues, f"{event.full_name} names a queue twice", "name each queue once")


def event_comes_again(event: Event) -> Iterator[Violation]:
    """A ladder has an end and rungs that queues can be made of, and nothing is swept before somebody could look."""
    policy, place = event.policy, event.place.below(DescriptorProto.OPTIONS_FIELD_NUMBER, EVENT)
    pauses = shared.retry_pauses(policy)
    after = place.at(EventPolicy.RETRY_AFTER_FIELD_NUMBER)
    for pause in pauses:
        if not RETRY_PAUSE_MIN_S <= pause <= RETRY_PAUSE_MAX_S or pause * 1000 % 1:
            message = f"{event.full_name} comes again after {pause:g} s"
            fix = f"write whole milliseconds, from {RETRY_PAUSE_MIN_S:g} s to {RETRY_PAUSE_MAX_S:g} s"
            yield Violation(after, message, fix)
    if len(set(pauses)) > RETRY_PAUSES_MAX:
        message = f"{event.full_name} waits {len(set(pauses))} different times"
        yield Violation(after, message, f"use up to {RETRY_PAUSES_MAX}: each is a queue for every worker")
    said = policy.max_deliveries
    if said > DELIVERIES_MAX or 0 < said <= len(policy.retry_after):
        most = place.at(EventPolicy.MAX_DELIVERIES_FIELD_NUMBER)
        least = len(policy.retry_after) + 1
        message = f"{event.full_name} is delivered {said} times and has {len(policy.retry_after)} pauses"
        yield Violation(most, message, f"write `max_deliveries` from {least} to {DELIVERIES_MAX}")
    kept = shared.retention_s(policy)
    if kept is not None and kept < RETENTION_MIN_S:
        location = place.at(EventPolicy.RETENTION_FIELD_NUMBER)
        yield Violation(
            location, f"{event.full_name} is kept for {kept:g} s", "keep it for an hour at least, or for good"
        )


def routing_keys_are_unique(events: Iterable[Event]) -> Iterator[Violation]:
    """A shared routing key would deliver one event to the queues of the other."""
    first: dict[str, str] = {}
    for event in events:
        other = first.setdefault(event.policy.routing_key, event.full_name)
        if other != event.full_name:
            location: Location = event.place.at(
                DescriptorProto.OPTIONS_FIELD_NUMBER, EVENT, EventPolicy.ROUTING_KEY_FIELD_NUMBER
            )
            message = f"{event.full_name} has the routing key {event.policy.routing_key!r} of {other}"
            yield Violation(location, message, "give each event a routing key of its own")


def idempotency_is_possible(rpc: Rpc) -> Iterator[Violation]:
    """A method that promises to do nothing needs no key against doing it twice."""
    if rpc.method.safe and "request_id" in rpc.method.request_fields:
        place = rpc.method.place.at(_METHOD_OPTIONS, MethodOptions.IDEMPOTENCY_LEVEL_FIELD_NUMBER)
        message = f"{rpc.name} has no side effects and takes a request_id"
        yield Violation(place, message, "remove `request_id`, or NO_SIDE_EFFECTS where it is not true")


def errors_can_be_told_apart(rpc: Rpc) -> Iterator[Violation]:
    """Programs test code and reason, so both must be what ErrorInfo can carry, and a reason must mean one thing."""
    location = rpc.places["errors"]
    for error in rpc.policy.errors:
        if error.code not in CODES:
            message = f"{rpc.name} declares an error with the code {error.code!r}"
            yield Violation(location, message, "name one of google.rpc.Code, for example `NOT_FOUND`")
        if not _REASON.fullmatch(error.reason) or len(error.reason) > REASON_CHARS_MAX:
            message = f"{rpc.name} declares an error with the reason {error.reason!r}"
            fix = f"write it as `PRODUCT_NOT_FOUND`: upper snake case, {REASON_CHARS_MAX} characters at most (AIP-193)"
            yield Violation(location, message, fix)
    reasons = [error.reason for error in rpc.policy.errors]
    for reason in sorted({reason for reason in reasons if reasons.count(reason) > 1}):
        message = f"{rpc.name} declares the reason {reason!r} twice"
        yield Violation(location, message, "declare each reason once, with one code")


def edge_is_said_once(edges: Sequence[EdgeRules]) -> Iterator[Violation]:
    """Of two that differ, one would hold by luck; of none, nothing would hold a flood off the check of tokens."""
    if not edges:
        fix = "add `option (weft.options.v1.edge) = {address_limit: {requests: 5000 per: {seconds: 1}}};`"
        yield Violation(EDGE_HOME, "no contract says what holds at the edge", fix)
    for edge in edges[1:]:
        message = f"what holds at the edge is said here and at {edges[0].places['edge']}"
        yield Violation(edge.places["edge"], message, "say it in one file")


def origins_are_origins(edge: EdgeRules) -> Iterator[Violation]:
    """A browser sends scheme, host and port; what has another form matches nothing, or everybody."""
    location = edge.places["origins"]
    for origin in edge.origins:
        fault = _origin_fault(origin)
        if fault is not None:
            yield Violation(location, f"cors allows the origin {origin!r}, {fault[0]}", fault[1])
    if len(set(edge.origins)) < len(edge.origins):
        yield Violation(location, "cors names an origin twice", "name each origin once")
    if edge.max_age is not None and not timedelta(0) < edge.max_age <= PREFLIGHT_AGE_MAX:
        message = f"preflights are remembered for {edge.max_age.total_seconds():g} s"
        fix = f"write a `max_age` above 0 and up to {PREFLIGHT_AGE_MAX.total_seconds():g} s, or leave it out"
        yield Violation(edge.places["max_age"], message, fix)


def _origin_fault(origin: str) -> tuple[str, str] | None:
    """What is wrong with an origin, and what to write instead."""
    if origin == "*":
        return "which is every page there is", "name each origin that may call, for example `https://shop.example`"
    if origin == "null":
        return "which any page can give itself in a sandboxed frame", "remove it"
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        return "which has no scheme of the web", "begin it with `https://` or `http://`, in lower case"
    if rest.endswith("/") and "/" not in rest[:-1]:
        return "which ends in a slash, as no browser sends it", f"write `{origin[:-1]}`"
    if re.search(r"[/?#@\\]", rest):
        return "which is more than an origin", "write scheme, host and port alone, for example `https://shop.example`"
    found = _AUTHORITY.fullmatch(rest)
    if found is None:
        fix = "write the host in lower-case ASCII (IDNA names as xn--...), each one by itself; `:*` allows any port"
        return "which has no host that a browser sends", fix
    port = found["port"]
    if port == DEFAULT_PORTS[scheme]:
        return "which names the port that browsers leave out", f"write `{scheme}://{found['host']}`"
    if port not in (None, "*") and not (0 < int(port) <= PORT_MAX and port[0] != "0"):
        return "which has no port that there is", f"write a port from 1 to {PORT_MAX}, or `:*`"
    return None


def address_limit_makes_sense(edge: EdgeRules, rpcs: Iterable[Rpc]) -> Iterator[Violation]:
    """The guard counts addresses, admits what methods admit, and is there."""
    limit, location = edge.address_limit, edge.places["address_limit"]
    if limit is None:
        fix = "add `address_limit: {requests: 5000 per: {seconds: 1} burst: 10000}`"
        yield Violation(location, "one address may ask of the gateways whatever it likes", fix)
        return
    yield from _bucket("address_limit", limit, location)
    if limit.key != "address":
        message = "address_limit counts for each subject, and stands before anybody has one"
        yield Violation(location, message, "leave out `key`")
    for rpc in rpcs:
        own = rpc.policy.rate_limit
        if own is not None and own.key == "address" and limit.requests * own.per < own.requests * limit.per:
            message = f"{rpc.name} allows {own}, and the edge {limit.requests} per {limit.per.total_seconds():g} s"
            yield Violation(rpc.places["rate_limit"], message, f"lower it, or raise address_limit at {location}")


EVENT_RULES: Final[tuple[Callable[[Event], Iterator[Violation]], ...]] = (event_is_routed, event_comes_again)
RPC_RULES: Final[tuple[Callable[[Rpc], Iterator[Violation]], ...]] = (
    package_names_the_owner,
    access_is_said,
    http_binding_is_sound,
    retry_is_harmless,
    hedging_is_harmless,
    idempotency_is_possible,
    consistency_is_kept_by_somebody,
    rate_limit_makes_sense,
    timeout_is_said,
    request_size_makes_sense,
    errors_can_be_told_apart,
    slo_can_be_watched,
    tool_answers_once,
)
