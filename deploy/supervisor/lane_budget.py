"""Whether a lane burns its error budget. Pure: what was counted in, a reason out.

A budget is what the contract's objective lets fail, method by method; the stable instances' calls tell what is not the
lane's fault. The rate is that of the fast alert (SRE Workbook, chapter 5), but over a minute: whoever tries a version
wants to know at once, and few calls are few who suffer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

BURN_RATE = 14.4
"""Times too fast: at this rate two percent of a month's budget are spent in an hour."""
FAULTS_MIN = 5
"""Fewer are not judged: of ten calls a single one would burn any budget."""
WORSE = 2.0
"""A lane whose share of faults is not so many times that of the stable instances shares their trouble."""
WINDOW_S = 60.0
BUDGET = 0.001
"""Of a method without an objective: 99.9 percent."""


@dataclass(frozen=True, slots=True)
class Count:
    """Calls of one method."""

    calls: float = 0.0
    faults: float = 0.0
    """Those that failed by a fault of the mesh, as objectives count them."""

    def __add__(self, other: "Count") -> "Count":
        return Count(self.calls + other.calls, self.faults + other.faults)

    @property
    def share(self) -> float:
        """Of faults; 0 without calls."""
        return self.faults / self.calls if self.calls else 0.0


Counts = Mapping[str, Count]
"""By method: `weft.orders.v1.OrderService/PlaceOrder`."""


def since(before: Counts, after: Counts) -> dict[str, Count]:
    """What has come to counters. One that is smaller than it was has begun anew."""
    found = {}
    for method, now in after.items():
        then = before.get(method, Count())
        begun = now.calls < then.calls or now.faults < then.faults
        found[method] = now if begun else Count(now.calls - then.calls, now.faults - then.faults)
    return found


def total(many: "list[Counts]") -> dict[str, Count]:
    """All of them together."""
    found: dict[str, Count] = {}
    for counts in many:
        for method, count in counts.items():
            found[method] = found.get(method, Count()) + count
    return found


def burns(lane: Counts, stable: Counts, budgets: Mapping[str, float]) -> str:
    """Why the lane is to be rolled back; empty: it is not."""
    for method, count in sorted(lane.items()):
        budget = budgets.get(method, BUDGET)
        beside = stable.get(method, Count()).share
        if count.faults >= FAULTS_MIN and count.share > BURN_RATE * budget and count.share > WORSE * beside:
            return (
                f"{count.faults:g} of {count.calls:g} calls of {method} failed within {WINDOW_S:g} s; "
                f"its objective lets {budget:.3%} fail, and of the stable instances' {beside:.3%} did"
            )
    return ""


@dataclass(slots=True)
class Window:
    """What was counted lately, of counters in several places."""

    _before: dict[str, Counts] = field(default_factory=dict)
    _recent: list[tuple[float, dict[str, Count]]] = field(default_factory=list)

    def take(self, now: float, counters: Mapping[str, Counts]) -> None:
        """Look at the counters of each place. What a place had counted before it was first looked at does not count."""
        new = [since(self._before[place], counts) for place, counts in counters.items() if place in self._before]
        # A place that does not answer this time is remembered: what it counts meanwhile is not lost.
        self._before.update(counters)
        self._recent = [(when, counts) for when, counts in self._recent if now - when < WINDOW_S]
        self._recent.append((now, total(list(new))))

    def counts(self) -> dict[str, Count]:
        """All of the window."""
        return total([counts for _, counts in self._recent])
