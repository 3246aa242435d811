"""Metrics of a control plane's view of the registry."""

from collections import Counter as Counted
from collections.abc import Iterable
from typing import Final

from prometheus_client import Gauge

ENTRIES_REFUSED: Final = Gauge(
    "weft_registry_entries_refused", "Registry entries that are ignored now, by reason.", ["reason"]
)
ENDPOINTS_HELD: Final = Gauge(
    "weft_endpoints_held", "Endpoints announced although the registry has lost them, by service.", ["service"]
)
LAST_GOOD: Final = Gauge("weft_last_good_failed", "1 while what is known cannot be kept on disk.")

_known: Final[dict[Gauge, set[str]]] = {ENTRIES_REFUSED: set(), ENDPOINTS_HELD: set()}


def refused(reasons: Iterable[str]) -> None:
    """The reasons of all entries that are refused now."""
    _set(ENTRIES_REFUSED, reasons)


def held(services: Iterable[str]) -> None:
    """The services of all endpoints that are held now."""
    _set(ENDPOINTS_HELD, services)


def _set(gauge: Gauge, values: Iterable[str]) -> None:
    """Count each value; one that was seen before and is no longer there is 0."""
    counts = Counted(values)
    _known[gauge].update(counts)
    for value in _known[gauge]:
        gauge.labels(value).set(counts[value])
