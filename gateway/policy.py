"""Second pass: the service's defaults and a method's own words become one effective Policy per RPC.

The overlay itself is weft_protos.policy.merge, which services read too, so that gateway and service cannot disagree.
This pass adds types and the line on which each part is said. It judges nothing: a policy may still break the rules.
"""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, cast, get_args

from google.protobuf.duration_pb2 import Duration

from gateway.contract import Contract, Edge, Event, Field, Method, Service
from gateway.errors import UnknownMethodError, UnknownScopeError
from weft.options.v1 import policy_pb2
from weft.options.v1.policy_pb2 import Cors, EdgePolicy, MethodPolicy
from weft_protos import grounds
from weft_protos import policy as shared
from weft_protos.locations import PARTS, Location, Part, part_of

Key = Literal["subject", "address"]
Criticality = Literal["sheddable", "default", "critical"]
Level = Literal["strong", "bounded", "eventual"]
#: From what is refused first to what is refused last.
CRITICALITIES: Final[tuple[Criticality, ...]] = get_args(Criticality)

#: A duration beyond this is read as this: the rules refuse it, and timedelta cannot hold every Duration.
_DURATION_S_MAX: Final = 10**9


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket for each caller, over the whole fleet of gateways."""

    requests: int
    per: timedelta
    burst: int
    """Size of the bucket; where the contract says none, the same as `requests`."""
    key: Key
    key_said: bool
    """True where the contract names the key itself."""

    def __str__(self) -> str:
        return f"{self.requests} per {self.per.total_seconds():g} s for each {self.key}, bursts of {self.burst}"


@dataclass(frozen=True, slots=True)
class DeclaredError:
    """An error that callers of one method may rely on."""

    code: str
    """Name of a `google.rpc.Code`: `NOT_FOUND`."""
    reason: str
    """Constant of `google.rpc.ErrorInfo`: `PRODUCT_NOT_FOUND`."""
    comment: str
    """When it is given; empty where the contract does not say."""

    def __str__(self) -> str:
        return f"{self.code} {self.reason}"


@dataclass(frozen=True, slots=True)
class Slo:
    """What callers of one method may count on, over 30 days; shares of calls, each with its words for people."""

    availability: float | None
    """Percent of the calls that do not fail by a fault of the mesh."""
    latency: float | None
    """Percent of the calls that succeed within `threshold`."""
    threshold: timedelta | None

    def words(self) -> tuple[str, ...]:
        """Each objective in words."""
        said = () if self.availability is None else (f"{self.availability:g} % without a fault",)
        if self.latency is None or self.threshold is None:
            return said
        return (*said, f"{self.latency:g} % within {self.threshold.total_seconds():g} s")


@dataclass(frozen=True, slots=True)
class Consistency:
    """How new an answer is."""

    level: Level
    max_s: float
    """How many seconds old it may be: 0 where it is strong, infinity where it is eventual."""

    def __str__(self) -> str:
        return f"bounded staleness, {self.max_s:g} s" if self.level == "bounded" else self.level


STRONG: Final = Consistency("strong", 0.0)


@dataclass(frozen=True, slots=True)
class Caching:
    """How answers are kept, beside for how long."""

    key: str
    """Template over the request: `{name}`."""
    tags: tuple[str, ...]
    negative_ttl: timedelta | None
    """How long NOT_FOUND is kept; None: it is not."""
    shared: bool
    """Every caller gets the same answer."""
    events: tuple[str, ...]
    """Full names of events whose ordering key is the key of an entry that they make outdated."""

    def __str__(self) -> str:
        about = f", about {' and '.join(self.tags)}" if self.tags else ""
        nothing = f", NOT_FOUND for {self.negative_ttl.total_seconds():g} s" if self.negative_ttl else ""
        outdated = f", until {' or '.join(self.events)}" if self.events else ""
        return f"by {self.key}, for {'everybody' if self.shared else 'each subject'}{about}{nothing}{outdated}"


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Entries of the cache that a call makes outdated."""

    tag: str
    key: str
    """Template over the request of the method that invalidates."""

    def __str__(self) -> str:
        return f"{self.tag} {self.key}"


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for every call of one RPC; None where nobody said anything."""

    public: bool
    scopes: tuple[str, ...]
    rate_limit: RateLimit | None
    timeout: timedelta | None
    max_attempts: int | None
    cache_ttl: timedelta | None
    criticality: Criticality | None
    max_request_bytes: int | None
    errors: tuple[DeclaredError, ...] = ()
    """What it fails with beside what any call may meet."""
    hedging_delay: timedelta | None = None
    """How long an attempt goes unanswered before another is sent beside it."""
    slo: Slo | None = None
    consistency: Consistency = STRONG
    """What holds, whether the contract says it or not."""
    consistency_said: bool = False
    max_staleness: timedelta | None = None
    """As the contract writes it, whatever the level."""
    caching: Caching | None = None
    """None where answers are not kept."""
    invalidates: tuple[Invalidation, ...] = ()

    @property
    def request_bytes(self) -> int:
        """The most bytes of a request, whether the contract says it or not."""
        return shared.REQUEST_BYTES_MAX if self.max_request_bytes is None else self.max_request_bytes


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC with its effective policy."""

    owner: str
    """The mesh service that serves it, which is also its cluster: `orders`."""
    method: Method
    policy: Policy
    places: Mapping[Part, Location]
    """Where each part of the policy is said; the method's own line where it is not said at all."""

    @property
    def name(self) -> str:
        """`weft.orders.v1.OrderService/PlaceOrder`."""
        return self.method.full_name

    @property
    def access(self) -> str:
        """The rule by which callers are let in: `scopes: orders.write`."""
        return grounds.PUBLIC if self.policy.public else grounds.scopes(self.policy.scopes)


EdgePart = Literal["edge", "origins", "max_age", "address_limit"]


@dataclass(frozen=True, slots=True)
class EdgeRules:
    """What holds at the edge, whatever is called."""

    origins: tuple[str, ...]
    """Origins whose pages may call, as the contract writes them."""
    max_age: timedelta | None
    address_limit: RateLimit | None
    places: Mapping[EdgePart, Location]


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every RPC, event and field of the contracts, with what holds for it."""

    rpcs: tuple[Rpc, ...]
    events: tuple[Event, ...]
    fields: tuple[Field, ...]
    descriptors: bytes
    edges: tuple[EdgeRules, ...] = ()
    """One for each file that says it; the rules see to it that just one does."""

    @property
    def edge(self) -> EdgeRules | None:
        """What holds at the edge; None where no contract says it."""
        return self.edges[0] if self.edges else None

    @property
    def owners(self) -> tuple[str, ...]:
        """The mesh services that the contracts name, sorted."""
        return tuple(sorted({rpc.owner for rpc in self.rpcs}))

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the contract services, sorted."""
        return tuple(sorted({rpc.method.service for rpc in self.rpcs}))


def resolve(contract: Contract) -> PolicySet:
    """The effective policy of every method."""
    rpcs = tuple(_rpc(service, method) for service in contract.services for method in service.methods)
    edges = tuple(map(_edge, contract.edges))
    return PolicySet(rpcs, contract.events, contract.fields, contract.descriptors, edges)


def _rpc(service: Service, method: Method) -> Rpc:
    merged = shared.merge(service.options, method.options)
    own, defaults = (method.place, method.options), (service.place, service.options)
    places = {part: part_of(part, own, service=defaults) for part in PARTS}
    return Rpc(service.owner, method, _policy(merged), places)


def _policy(merged: MethodPolicy) -> Policy:
    return Policy(
        public=merged.public,
        scopes=tuple(merged.scopes),
        rate_limit=_rate_limit(merged) if merged.HasField("rate_limit") else None,
        timeout=_duration(merged.timeout) if merged.HasField("timeout") else None,
        max_attempts=merged.retry.max_attempts if merged.HasField("retry") else None,
        cache_ttl=_duration(merged.cache.ttl) if merged.HasField("cache") else None,
        max_request_bytes=merged.max_request_bytes if merged.HasField("max_request_bytes") else None,
        criticality=_criticality(merged),
        errors=tuple(DeclaredError(error.code, error.reason, error.comment) for error in merged.errors),
        hedging_delay=_duration(merged.hedging.delay) if merged.HasField("hedging") else None,
        slo=_slo(merged) if merged.HasField("slo") else None,
        consistency=_consistency(merged),
        consistency_said=merged.HasField("consistency"),
        max_staleness=(
            _duration(merged.consistency.max_staleness) if merged.consistency.HasField("max_staleness") else None
        ),
        caching=_caching(merged) if merged.HasField("cache") else None,
        invalidates=tuple(Invalidation(said.tag, said.key) for said in merged.invalidates),
    )


def _consistency(merged: MethodPolicy) -> Consistency:
    bounded = MethodPolicy()
    bounded.CopyFrom(merged)
    for duration in (bounded.consistency.max_staleness, bounded.cache.ttl):
        duration.FromTimedelta(_duration(duration))
    if not merged.HasField("cache"):
        bounded.ClearField("cache")
    level, max_s = shared.consistency(bounded)
    return Consistency(cast(Level, level), max_s)


def _caching(merged: MethodPolicy) -> Caching:
    cache = merged.cache
    negative_ttl = _duration(cache.negative_ttl) if cache.HasField("negative_ttl") else None
    return Caching(cache.key, tuple(cache.tags), negative_ttl, cache.shared, tuple(cache.events))


def _rate_limit(merged: MethodPolicy) -> RateLimit:
    limit = merged.rate_limit
    said = limit.key != policy_pb2.RateLimit.KEY_UNSPECIFIED
    address = limit.key == policy_pb2.RateLimit.KEY_ADDRESS or (not said and merged.public)
    return RateLimit(
        requests=limit.requests,
        per=_duration(limit.per),
        burst=limit.burst or limit.requests,
        key="address" if address else "subject",
        key_said=said,
    )


def _criticality(merged: MethodPolicy) -> Criticality | None:
    level = merged.criticality
    return CRITICALITIES[level - 1] if 0 < level <= len(CRITICALITIES) else None


def _slo(merged: MethodPolicy) -> Slo:
    slo = merged.slo
    timed = slo.HasField("latency")
    return Slo(
        availability=slo.availability or None,
        latency=slo.latency.percent if timed else None,
        threshold=_duration(slo.latency.threshold) if timed else None,
    )


def _edge(said: Edge) -> EdgeRules:
    cors, place = said.policy.cors, said.place
    inside = place.below(EdgePolicy.CORS_FIELD_NUMBER)
    # Nobody has a subject yet where this limit stands.
    limit = MethodPolicy(public=True, rate_limit=said.policy.address_limit)
    return EdgeRules(
        origins=tuple(cors.origins),
        max_age=_duration(cors.max_age) if cors.HasField("max_age") else None,
        address_limit=_rate_limit(limit) if said.policy.HasField("address_limit") else None,
        places={
            "edge": place.at(),
            "origins": inside.at(Cors.ORIGINS_FIELD_NUMBER),
            "max_age": inside.at(Cors.MAX_AGE_FIELD_NUMBER),
            "address_limit": place.at(EdgePolicy.ADDRESS_LIMIT_FIELD_NUMBER),
        },
    )


def _duration(value: Duration) -> timedelta:
    seconds = max(-_DURATION_S_MAX, min(_DURATION_S_MAX, value.seconds))
    return timedelta(seconds=seconds, microseconds=value.nanos / 1000)


def find(policies: PolicySet, asked: str) -> Rpc:
    """The RPC that `asked` names, in full or by any unambiguous end. Raises UnknownMethodError."""
    wanted = asked.strip("/").replace("/", ".")
    dotted = {rpc.name.replace("/", "."): rpc for rpc in policies.rpcs}
    fitting = [name for name in dotted if name == wanted or name.endswith(f".{wanted}")]
    if len(fitting) == 1:
        return dotted[fitting[0]]
    if fitting:
        raise UnknownMethodError(f"{asked!r} fits {', '.join(dotted[name].name for name in sorted(fitting))}")
    close = difflib.get_close_matches(wanted.split(".")[-1], [rpc.method.name for rpc in policies.rpcs], n=3)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    raise UnknownMethodError(f"no contract has a method {asked!r}{hint}")


def describe(rpc: Rpc) -> dict[str, object]:
    """The effective policy in plain values, for people and for --json."""
    policy, limit = rpc.policy, rpc.policy.rate_limit
    said: dict[str, object] = {
        "method": rpc.name,
        "service": rpc.owner,
        "http": [f"{binding.verb} {binding.template}" for binding in rpc.method.bindings],
        "access": "public" if policy.public else list(policy.scopes),
        "rate_limit": None if limit is None else str(limit),
        "timeout_s": None if policy.timeout is None else policy.timeout.total_seconds(),
        "max_attempts": policy.max_attempts or 1,
        "hedging_delay_s": None if policy.hedging_delay is None else policy.hedging_delay.total_seconds(),
        "cache_ttl_s": None if policy.cache_ttl is None else policy.cache_ttl.total_seconds(),
        "cache": None if policy.caching is None else str(policy.caching),
        "invalidates": [str(each) for each in policy.invalidates],
        "max_request_bytes": policy.request_bytes,
        "criticality": policy.criticality or "default",
        "slo": list(policy.slo.words()) if policy.slo else None,
        "consistency": str(policy.consistency),
        "streaming": rpc.method.streaming,
        "errors": [{"code": error.code, "reason": error.reason, "comment": error.comment} for error in policy.errors],
    }
    return said | {"said_at": {part: str(location) for part, location in rpc.places.items()}}


def decide(policies: PolicySet, rpc: Rpc, scopes: Collection[str]) -> dict[str, object]:
    """Whether a caller whose token has just these scopes may call, and by which rule; no scopes: without a token.

    It is what gateway and service answer before they look at the request. Raises UnknownScopeError.
    """
    known = {scope for one in policies.rpcs for scope in one.policy.scopes} | {shared.OPERATE}
    for scope in scopes:
        if scope not in known:
            named = ", ".join(sorted(known))
            raise UnknownScopeError(f"no contract names the scope {scope!r}; known are {named}")
    allowed = rpc.policy.public or not set(rpc.policy.scopes).isdisjoint(scopes)
    anonymous = not allowed and not scopes
    return {
        "as": sorted(set(scopes)),
        "allowed": allowed,
        "reason": None if allowed else "TOKEN_MISSING" if anonymous else "SCOPE_MISSING",
        grounds.RULE: grounds.TOKEN if anonymous else rpc.access,
        grounds.CONTRACT: rpc.places["access"].contract,
    }
