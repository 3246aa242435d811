"""Lanes: instances of another version beside the stable ones, and who is sent to them. Said once for all that agree.

The supervisor publishes all lanes as one document in the registry; control planes make routes of it; the gateway
decides for each call, once; the decision travels as one header, through every service and every event.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: How a client asks for a lane. Heard only where the lane's own `header` has this value.
ASKED: Final = "x-weft-lane"
#: The lane that a call goes by, from the gateway on. The gateway takes it off whatever comes from outside.
HEADER: Final = "x-weft-on-lane"
#: Name of the document in the registry.
DOCUMENT: Final = "lanes"
#: The gateway's filter that decides. Off, unless the control plane turns it on by a per-route configuration.
FILTER: Final = "weft.lane"
#: Keys of the gateway scripts' route metadata that say which instances a call goes to. A lane has its own, so that what
#: fails in it costs nobody else a retry.
RETRIED, HEDGED, OVERLOADED = "retried_service", "hedged_service", "overload_class"
TARGETS: Final = (RETRIED, HEDGED, OVERLOADED)
#: The claims by which a lane may choose. Of `scope` one word must be equal, of the others all of it.
CLAIMS: Final = ("sub", "sid", "scope")
LANES_MAX: Final = 16

_STREAMS: Final = "~streams"
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SERVICE: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
#: Printable, and plain in a header, a claim and a script.
_VALUE: Final = re.compile(r"[A-Za-z0-9._:@/-]{1,64}")
_FORMAT: Final = 1


def is_name(text: str) -> bool:
    """Whether a lane may be called so."""
    return bool(_NAME.fullmatch(text))


def cluster(service: str, lane: str) -> str:
    """Where calls of a lane to a service go: `orders@canary`; `orders` without a lane."""
    return f"{service}@{lane}" if lane else service


def streams(service: str) -> str:
    """The gateway's cluster of a service's streams, with the same instances: `orders~streams`."""
    return f"{service}{_STREAMS}"


def service(cluster: str) -> str:
    """The service that a cluster belongs to, which may be the one of its streams."""
    return cluster.removesuffix(_STREAMS)


@dataclass(frozen=True, slots=True)
class Lane:
    """One lane, and which calls enter it at the gateway. Raises ValueError for what nobody could obey."""

    name: str
    services: tuple[str, ...]
    """Those that have instances in it. Calls to all others go to the stable ones."""
    percent: float = 0.0
    """Of the subjects, 0 to 100. A subject that is in stays in while this grows."""
    header: str = ""
    """A call that asks for this value enters; empty: none may ask."""
    claim: str = ""
    """A call whose token has `value` in this claim enters; empty: claims do not matter."""
    value: str = ""

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"{self.name!r} is not a lane (a-z, 0-9 and -, beginning with a letter, 31 at most)")
        if not self.services:
            raise ValueError("a lane has at least one service")
        for service in self.services:
            if not _SERVICE.fullmatch(service):
                raise ValueError(f"{service!r} is not a service")
        if not 0 <= self.percent <= 100:
            raise ValueError(f"{self.percent:g} is not a percentage; give 0 to 100")
        if self.header and not _VALUE.fullmatch(self.header):
            raise ValueError(f"{self.header!r} cannot be the value of {ASKED}: letters, digits and ._:@/- , 64 at most")
        if bool(self.claim) != bool(self.value):
            raise ValueError("a claim needs its value")
        if self.claim and self.claim not in CLAIMS:
            raise ValueError(f"no lane can choose by the claim {self.claim!r}; by {', '.join(CLAIMS)} it can")
        if self.value and not _VALUE.fullmatch(self.value):
            raise ValueError(f"{self.value!r} cannot be a claim's value: letters, digits and ._:@/- , 64 at most")

    @property
    def is_open(self) -> bool:
        """Whether any call can enter."""
        return bool(self.percent or self.header or self.claim)


def to_bytes(lanes: Iterable[Lane]) -> bytes:
    """The document: JSON, so that etcdctl shows it, and the same for the same lanes."""
    rows = [
        {
            "name": lane.name,
            "services": sorted(lane.services),
            "percent": lane.percent,
            "header": lane.header,
            "claim": lane.claim,
            "value": lane.value,
        }
        for lane in sorted(lanes, key=lambda lane: lane.name)
    ]
    return json.dumps({"format": _FORMAT, "lanes": rows}).encode()


def from_bytes(document: bytes) -> tuple[Lane, ...]:
    """What `to_bytes` wrote. Raises ValueError for anything else; nothing of it may be used then."""
    try:
        parsed = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error.__class__.__name__}") from error
    rows = parsed.get("lanes") if isinstance(parsed, dict) and parsed.get("format") == _FORMAT else None
    if not isinstance(rows, list) or len(rows) > LANES_MAX:
        raise ValueError(f"not up to {LANES_MAX} lanes of format {_FORMAT}")
    lanes = tuple(_lane(row) for row in rows)
    if len({lane.name for lane in lanes}) < len(lanes):
        raise ValueError("a lane is there twice")
    return lanes


def _lane(row: Any) -> Lane:
    if not isinstance(row, Mapping) or not isinstance(row.get("services"), list):
        raise ValueError("a lane without services")
    percent = row.get("percent", 0.0)
    if isinstance(percent, bool) or not isinstance(percent, int | float):
        raise ValueError("a percentage is a number")
    texts = {key: row.get(key, "") for key in ("name", "header", "claim", "value")}
    services = tuple(row["services"])
    if not all(isinstance(text, str) for text in (*texts.values(), *services)):
        raise ValueError("names and values of lanes are text")
    return Lane(services=services, percent=float(percent), **texts)
