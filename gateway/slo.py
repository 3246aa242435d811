"""What watches the objectives of the contracts: Prometheus rules, made from each method's `slo`. Pure.

Multi-window, multi-burn-rate alerts after the SRE Workbook, chapter 5. A budget is the share of calls that an objective
lets fail; a burn rate of 1 spends it in just the 30 days it is meant for. Each alert asks a long window, so that a
moment of trouble is none, and a short one, so that it ends soon after the trouble does.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from gateway.envoy.calls import CALLS, DURATION
from gateway.policy import PolicySet, Rpc
from weft_protos import faults

RUNBOOKS: Final = "docs/runbooks"

#: How often the rules run, in seconds. Longer windows add up what these rounds found, so that three days cost thousands
#: of samples and not millions.
ROUND_S: Final = 15
BASE: Final = "5m"
WINDOWS: Final = ("30m", "1h", "2h", "6h", "1d", "3d")
#: Long window, short window, burn rate. 14.4 spends two percent of the budget in an hour, 6 five percent in six hours.
FAST: Final = (("1h", BASE, 14.4), ("6h", "30m", 6.0))
#: 3 spends ten percent in a day, 1 as much in three days.
SLOW: Final = (("1d", "2h", 3.0), ("3d", "6h", 1.0))
#: Fewer faults within the long window alert nobody: of ten calls in an hour a single one would burn any budget.
FAULTS_MIN: Final = 5

AVAILABILITY: Final = "availability"
LATENCY: Final = "latency"

_BUDGET: Final = "slo:error_budget:ratio"
_CALLS: Final = f"slo:calls:rate{BASE}"
_MISSED: Final = f"slo:missed_calls:rate{BASE}"


def render(policies: PolicySet) -> str:
    """The rule file, as JSON, which Prometheus reads as YAML."""
    rpcs = [rpc for rpc in policies.rpcs if rpc.policy.slo is not None]
    rules = [*_budgets(rpcs), *_availability(), *_latency(rpcs), *_burn_rates()]
    groups = [
        {"name": "slo", "interval": f"{ROUND_S}s", "rules": rules},
        {"name": "slo-alerts", "interval": f"{ROUND_S}s", "rules": [*_alerts()]},
    ]
    return json.dumps({"groups": groups}, indent=1) + "\n"


def burn_rate(window: str) -> str:
    """The series that says how many times too fast the calls of a window spend the budget."""
    return f"slo:burn_rate:ratio{window}"


def _record(name: str, expression: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expression, **({"labels": labels} if labels else {})}


def _budgets(rpcs: list[Rpc]) -> Iterator[dict[str, Any]]:
    for rpc in rpcs:
        slo = rpc.policy.slo
        assert slo is not None
        for name, percent in ((AVAILABILITY, slo.availability), (LATENCY, slo.latency)):
            if percent is not None:
                share = f"{(100 - percent) / 100:.6g}"
                yield _record(_BUDGET, f"vector({share})", method=rpc.name, service=rpc.owner, slo=name)


def _availability() -> Iterator[dict[str, Any]]:
    calls = f"sum by (method) (rate({CALLS}[{BASE}]))"
    # rate() takes one selector, so each kind of fault has its own; none of a kind is none, and not unknown.
    kinds = (f"(sum by (method) (rate({CALLS}{{{each}}}[{BASE}])) or {calls} * 0)" for each in faults.SELECTORS)
    yield _record(_CALLS, calls, slo=AVAILABILITY)
    yield _record(_MISSED, " + ".join(kinds), slo=AVAILABILITY)


def _latency(rpcs: list[Rpc]) -> Iterator[dict[str, Any]]:
    by_threshold: Mapping[timedelta, list[str]] = defaultdict(list)
    for rpc in rpcs:
        slo = rpc.policy.slo
        if slo is not None and slo.threshold is not None:
            by_threshold[slo.threshold].append(rpc.name)
    late = []
    for threshold, names in sorted(by_threshold.items()):
        # The histogram's bound is part of the selector, so each threshold has its own.
        methods = "|".join(name.replace(".", "[.]") for name in sorted(names))
        bound = f"{threshold / timedelta(milliseconds=1):g}"
        all_, in_time = (
            f'sum by (method) (rate({DURATION}_bucket{{method=~"{methods}",le="{le}"}}[{BASE}]))'
            for le in ("+Inf", bound)
        )
        late.append(f"({all_} - {in_time})")
    if late:
        yield _record(_CALLS, f"sum by (method) (rate({DURATION}_count[{BASE}]))", slo=LATENCY)
        yield _record(_MISSED, " or ".join(late), slo=LATENCY)


def _burn_rates() -> Iterator[dict[str, Any]]:
    budget = f"on (method, slo) group_left (service) {_BUDGET}"
    yield _record(burn_rate(BASE), f"{_MISSED} / {_CALLS} / {budget}")
    for window in WINDOWS:
        share = f"sum_over_time({_MISSED}[{window}]) / sum_over_time({_CALLS}[{window}])"
        yield _record(burn_rate(window), f"{share} / {budget}")


def _alerts() -> Iterator[dict[str, Any]]:
    yield _alert(
        "ErrorBudgetBurnsFast",
        FAST,
        severity="page",
        summary="{{ $labels.method }} misses its objective of {{ $labels.slo }}.",
        description="It spends its error budget {{ $value | humanize }} times as fast as 30 days of it allow.",
    )
    yield _alert(
        "ErrorBudgetBurnsSlowly",
        SLOW,
        severity="ticket",
        summary="{{ $labels.method }} will miss its objective of {{ $labels.slo }}.",
        description="For hours it has spent its error budget {{ $value | humanize }} times as fast as 30 days allow.",
    )


def _alert(
    name: str, burning: tuple[tuple[str, str, float], ...], *, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": " or ".join(f"({_burns(*each)})" for each in burning),
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description, "runbook_url": f"{RUNBOOKS}/{name}.md"},
    }


def _burns(long: str, short: str, rate: float) -> str:
    enough = f"sum_over_time({_MISSED}[{long}]) * {ROUND_S} >= {FAULTS_MIN}"
    return f"{burn_rate(long)} > {rate:g} and {burn_rate(short)} > {rate:g} and on (method, slo) {enough}"
