"""What another version of the contracts changes: two effective policies in, their differences out. Pure.

Called by `python -m gateway plan`. It compares what holds, not what is written: moving a limit from a method to its
service's defaults is no difference. It judges nothing; what breaks callers is said by `gateway.breaking`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, TypeVar

from gateway import sensitivity
from gateway.contract import Event, Field
from gateway.policy import EdgePart, EdgeRules, Policy, PolicySet, Rpc
from weft.options.v1.policy_pb2 import EventPolicy
from weft_protos.locations import Location, Part
from weft_protos.policy import retention_s, retry_pauses

Sign = Literal["+", "-", "~"]
Kind = Literal["method", "event", "mark", "edge"]
Facets = Mapping[str, tuple[str, ...]]
"""What holds for a method, an event or a marked field, by the name of the part; of a set, each value."""

KINDS: Final[tuple[Kind, ...]] = ("method", "event", "mark", "edge")
_WORDS: Final[Mapping[Sign, str]] = {"+": "added", "-": "removed", "~": "changed"}
_EVENT_FIELDS: Final[Mapping[str, int]] = {
    "routing_key": EventPolicy.ROUTING_KEY_FIELD_NUMBER,
    "ordering_key": EventPolicy.ORDERING_KEY_FIELD_NUMBER,
    "queues": EventPolicy.QUEUES_FIELD_NUMBER,
    "retry_after": EventPolicy.RETRY_AFTER_FIELD_NUMBER,
    "retention": EventPolicy.RETENTION_FIELD_NUMBER,
}
_PARTS: Final[Mapping[str, Part]] = {
    "access": "access",
    "rate_limit": "rate_limit",
    "timeout": "timeout",
    "retry": "retry",
    "cache": "cache",
    "max_request_bytes": "max_request_bytes",
    "criticality": "criticality",
    "errors": "errors",
    "hedging": "hedging",
    "slo": "slo",
    "consistency": "consistency",
    "kept": "cache",
    "invalidates": "invalidates",
}

_EDGE_PARTS: Final[Mapping[str, EdgePart]] = {
    "origins": "origins",
    "max_age": "max_age",
    "address_limit": "address_limit",
}

Named = TypeVar("Named", Rpc, Event, Field, EdgeRules)


@dataclass(frozen=True, slots=True)
class Difference:
    """One part of a method, an event or a mark that is not what it was."""

    part: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    location: Location | None
    """Where the new contracts say it; None where they no longer have the method, the event or the mark."""

    @property
    def sign(self) -> Sign:
        """`+` where there was nothing before, `-` where there is nothing now."""
        return "+" if not self.before else "-" if not self.after else "~"


@dataclass(frozen=True, slots=True)
class Change:
    """A method, an event or the mark of a field that is not what it was."""

    kind: Kind
    sign: Sign
    name: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes: methods first, each kind by name."""

    changes: tuple[Change, ...]

    def __str__(self) -> str:
        lines: list[str] = []
        for kind in KINDS:
            found = [change for change in self.changes if change.kind == kind]
            if found:
                lines += ["", f"{kind}s"] if lines else [f"{kind}s"]
            for change in found:
                lines += _lines(change)
        return "\n".join([*lines, "", self.summary] if lines else [self.summary])

    @property
    def summary(self) -> str:
        """How many of what, in one line."""
        counts = [
            f"{count} {kind}{'' if count == 1 else 's'} {_WORDS[sign]}"
            for kind in KINDS
            for sign in ("+", "-", "~")
            if (count := sum(change.kind == kind and change.sign == sign for change in self.changes))
        ]
        return ", ".join(counts) or "nothing changes"

    def as_object(self) -> dict[str, object]:
        """For --json."""
        changes = [
            {
                "kind": change.kind,
                "change": _WORDS[change.sign],
                "name": change.name,
                "differences": [
                    {
                        "part": difference.part,
                        "change": _WORDS[difference.sign],
                        "before": list(difference.before),
                        "after": list(difference.after),
                        "said_at": str(difference.location) if difference.location else None,
                    }
                    for difference in change.differences
                ],
            }
            for change in self.changes
        ]
        return {"summary": self.summary, "changes": changes}


def make(before: PolicySet, after: PolicySet) -> Plan:
    """What changes when `after` takes the place of `before`."""
    methods = _changes("method", _named(before.rpcs), _named(after.rpcs), _rpc_facets, _rpc_location)
    events = {event.full_name: event for event in before.events}, {event.full_name: event for event in after.events}
    marks = _changes("mark", _marked(before.fields), _marked(after.fields), _field_facets, _field_location)
    was, now = ({"edge": each.edge} if each.edge is not None else {} for each in (before, after))
    return Plan(
        (
            *methods,
            *_changes("event", *events, _event_facets, _event_location),
            *marks,
            *_changes("edge", was, now, _edge_facets, _edge_location),
        )
    )


def access(policy: Policy) -> str:
    """Who may call, in words."""
    return "public" if policy.public else f"any of {', '.join(sorted(policy.scopes))}" if policy.scopes else "nobody"


def seconds(duration: timedelta) -> str:
    """A duration in words; zero is what contracts write for "no limit"."""
    return f"{duration.total_seconds():g} s" if duration else "no limit"


def _named(rpcs: tuple[Rpc, ...]) -> dict[str, Rpc]:
    return {rpc.name: rpc for rpc in rpcs}


def _changes(
    kind: Kind,
    before: Mapping[str, Named],
    after: Mapping[str, Named],
    facets: Callable[[Named], Facets],
    locate: Callable[[Named, str], Location],
) -> Iterator[Change]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        was: Facets = facets(old) if old is not None else {}
        now: Facets = facets(new) if new is not None else {}
        differences = tuple(
            Difference(part, was.get(part, ()), now.get(part, ()), None if new is None else locate(new, part))
            for part in dict.fromkeys((*was, *now))
            if was.get(part, ()) != now.get(part, ())
        )
        if old is None or new is None:
            yield Change(kind, "+" if old is None else "-", name, differences)
        elif differences:
            yield Change(kind, "~", name, differences)


def _rpc_facets(rpc: Rpc) -> Facets:
    policy, method = rpc.policy, rpc.method
    routes = (f"{each.verb} {each.template}{f' body {each.body}' if each.body else ''}" for each in method.bindings)
    return {
        "routes": tuple(sorted(routes)),
        "access": (access(policy),),
        "rate_limit": () if policy.rate_limit is None else (str(policy.rate_limit),),
        "timeout": () if policy.timeout is None else (seconds(policy.timeout),),
        "retry": () if policy.max_attempts is None else (f"{policy.max_attempts} attempts",),
        "hedging": () if policy.hedging_delay is None else (f"after {seconds(policy.hedging_delay)}",),
        "cache": () if policy.cache_ttl is None else (f"for {seconds(policy.cache_ttl)}",),
        "kept": () if policy.caching is None else (str(policy.caching),),
        "invalidates": tuple(sorted(map(str, policy.invalidates))),
        "max_request_bytes": () if policy.max_request_bytes is None else (f"{policy.max_request_bytes} bytes",),
        "criticality": () if policy.criticality is None else (policy.criticality,),
        "consistency": (str(policy.consistency),),
        "errors": tuple(sorted(map(str, policy.errors))),
        "slo": () if policy.slo is None else policy.slo.words(),
        "effects": ("none",) if method.safe else ("the same when repeated",) if method.idempotent else ("any",),
    }


def _rpc_location(rpc: Rpc, part: str) -> Location:
    if part == "routes" and rpc.method.bindings:
        return rpc.method.bindings[0].location
    return rpc.places[_PARTS[part]] if part in _PARTS else rpc.method.place.at()


def _event_facets(event: Event) -> Facets:
    policy = event.policy
    return {
        "routing_key": (policy.routing_key,),
        "ordering_key": (policy.ordering_key,),
        "queues": tuple(sorted(policy.queues)),
        # In one value: the order counts. It says of `max_deliveries` what that comes to.
        "retry_after": (", ".join(f"{pause:g} s" for pause in retry_pauses(policy)),),
        "retention": ("for good" if (kept := retention_s(policy)) is None else f"{kept:g} s",),
    }


def _event_location(event: Event, part: str) -> Location:
    return event.said_at(_EVENT_FIELDS[part])


def _marked(fields: tuple[Field, ...]) -> dict[str, Field]:
    return {field.full_name: field for field in fields if sensitivity.word(field.sensitive)}


def _field_facets(field: Field) -> Facets:
    return {"sensitive": (sensitivity.word(field.sensitive),)}


def _field_location(field: Field, _part: str) -> Location:
    return field.said_at


def _edge_facets(edge: EdgeRules) -> Facets:
    limit = edge.address_limit
    return {
        "origins": tuple(sorted(edge.origins)),
        "max_age": () if edge.max_age is None else (f"{edge.max_age.total_seconds():g} s",),
        "address_limit": () if limit is None else (str(limit),),
    }


def _edge_location(edge: EdgeRules, part: str) -> Location:
    return edge.places[_EDGE_PARTS[part]]


def _lines(change: Change) -> Iterator[str]:
    yield f"  {change.sign} {change.name}"
    for difference in change.differences:
        where = f"   {difference.location}" if difference.location and change.sign == "~" else ""
        if difference.part in ("routes", "queues", "errors", "origins", "slo", "invalidates"):
            gone = [each for each in difference.before if each not in difference.after]
            come = [each for each in difference.after if each not in difference.before]
            for sign, value in (*(("-", each) for each in gone), *(("+", each) for each in come)):
                yield f"      {sign} {difference.part.removesuffix('s'):<13} {value}{where}"
        else:
            values = " -> ".join((*difference.before, *difference.after))
            yield f"      {difference.sign} {difference.part:<13} {values}{where}"
