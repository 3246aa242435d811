"""What gateways and instances have counted of lanes. Asked directly: no monitor has to be up for a lane to be judged.

Gateways know how each call ended for its caller, after all retries; instances what they answered, also to other
services. Both are asked for a few figures by name.
"""

import asyncio
import http.client
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from deploy.supervisor.lane_budget import Count
from deploy.supervisor.probe import HOST, TIMEOUT_S
from deploy.supervisor.servers import envoy
from weft_protos import faults, policy

CALLS: Final = "envoy_weft_calls_total"
DURATION: Final = "envoy_weft_call_duration_ms"
REQUESTS: Final = "weft_rpc_requests_total"
ASK_S: Final = 2.0
_SERIES: Final = re.compile(r"^(\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_FILTER: Final = quote(r"weft\.call", safe="")

Labels = Mapping[str, str]


@dataclass(slots=True)
class Figures:
    """What callers at the gateways have seen of one lane, or of none: since the gateways began."""

    counts: dict[str, Count] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)
    """Calls that succeeded within so many milliseconds, by that bound."""

    def add(self, other: "Figures") -> None:
        """Those of another gateway, too."""
        for method, count in other.counts.items():
            self.counts[method] = self.counts.get(method, Count()) + count
        for bound, calls in other.buckets.items():
            self.buckets[bound] = self.buckets.get(bound, 0.0) + calls


def series(text: str) -> Iterable[tuple[str, Labels, float]]:
    """The series of an exposition that have labels."""
    for name, labels, value in _SERIES.findall(text):
        yield name, dict(_LABEL.findall(labels)), float(value)


def of_gateway(text: str) -> dict[str, Figures]:
    """By lane, what a gateway's exposition says; calls of no lane under the empty name."""
    found: dict[str, Figures] = {}
    for name, labels, value in series(text):
        figures = found.setdefault(labels.get("lane", ""), Figures())
        method = labels.get("method", "")
        if name == CALLS and method:
            failed = faults.is_fault(labels.get("http_status", ""), labels.get("grpc_status", ""))
            count = Count(value, value if failed else 0.0)
            figures.counts[method] = figures.counts.get(method, Count()) + count
        elif name == f"{DURATION}_bucket" and method:
            bound = float(labels["le"].replace("+Inf", "inf"))
            figures.buckets[bound] = figures.buckets.get(bound, 0.0) + value
    return found


def of_instance(text: str) -> dict[str, Count]:
    """By method, what an instance says that it has answered."""
    found: dict[str, Count] = {}
    for name, labels, value in series(text):
        if name == REQUESTS:
            count = Count(value, value if labels.get("code") in faults.NAMES else 0.0)
            found[labels["method"]] = found.get(labels["method"], Count()) + count
    return found


async def gateways(admins: Mapping[str, Path]) -> dict[str, dict[str, Figures]]:
    """By gateway and lane. One that does not answer is left out."""
    answers = await asyncio.gather(*map(_figures, admins.values()))
    return {name: found for name, found in zip(admins, answers, strict=True) if found is not None}


async def instances(ports: Mapping[str, int]) -> dict[str, dict[str, Count]]:
    """By instance, of those whose metrics are on these ports. One that does not answer is left out."""
    answers = await asyncio.gather(*(asyncio.to_thread(_scrape, port) for port in ports.values()))
    return {name: of_instance(text) for name, text in zip(ports, answers, strict=True) if text is not None}


@cache
def budgets() -> Mapping[str, float]:
    """The share of calls that each method's objective lets fail, where the contracts of this clone state one."""
    found = {}
    for service in policy.SERVICES:
        for method in service.methods:
            availability = policy.effective(method).slo.availability
            if availability:
                found[f"{service.full_name}/{method.name}"] = (100 - availability) / 100
    return found


async def _figures(admin: Path) -> dict[str, Figures] | None:
    try:
        async with asyncio.timeout(ASK_S):
            return of_gateway((await envoy.ask(admin, "GET", f"/stats/prometheus?filter={_FILTER}")).decode())
    except (OSError, ValueError):  # a timeout is one as well; it has just gone, and others speak for it
        return None


def _scrape(port: int) -> str | None:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/metrics?{urlencode([('name[]', REQUESTS)])}", headers={"Connection": "close"})
        response = connection.getresponse()
        return response.read().decode() if response.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()
