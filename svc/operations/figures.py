"""What Prometheus is asked, and what it answered. Pure.

All questions travel as one expression, so that a round costs one request and all figures are of one moment: each
question's series get its name as a label. Rates are over a window of four scrapes: so old a change may be until a
figure shows all of it.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from weft_protos import faults

#: Four scrapes of what is asked every five seconds, and of what is asked every fifteen.
WINDOW: Final = "20s"
SELDOM: Final = "1m"

_CALLS: Final = "envoy_weft_calls_total"
_TIME: Final = "envoy_weft_call_duration_ms_bucket"
_FAULT_CODES: Final = "DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|DATA_LOSS|UNKNOWN"
_OWNER: Final = r'"owner", "$1", "method", "weft[.]([a-z0-9]+)[.].*"'


def _gateway(name: str, selector: str = "") -> str:
    return f"sum by (owner) (label_replace(rate({_CALLS}{{{selector}}}[{WINDOW}]), {_OWNER}))"


def _gateway_time(quantile: float, by: str = "") -> str:
    rate = f"label_replace(rate({_TIME}[{WINDOW}]), {_OWNER})"
    return f"histogram_quantile({quantile}, sum by ({by}le) ({rate}))"


def _peers(selector: str = "") -> str:
    return f"sum by (service, owner) (label_replace(rate(weft_peer_requests_total{{{selector}}}[{WINDOW}]), {_OWNER}))"


def _peer_time(quantile: float) -> str:
    rate = f"label_replace(rate(weft_peer_duration_seconds_bucket[{WINDOW}]), {_OWNER})"
    return f"histogram_quantile({quantile}, sum by (service, owner, le) ({rate}))"


#: Every question by its name.
QUESTIONS: Final[Mapping[str, str]] = {
    "cpu": f"rate(weft_process_cpu_seconds_total[{WINDOW}])",
    "memory": "weft_process_resident_bytes",
    "utilization": f"rate(weft_rpc_busy_seconds_total[{WINDOW}]) / (weft_rpc_threads > 0)",
    "calls": f"sum by (instance, service) (rate(weft_rpc_requests_total[{WINDOW}]))",
    "call faults": f'sum by (instance, service) (rate(weft_rpc_requests_total{{code=~"{_FAULT_CODES}"}}[{WINDOW}]))',
    "events": f"sum by (instance, service) (rate(weft_events_handled_total[{WINDOW}]))",
    "event faults": f'sum by (instance, service) (rate(weft_events_handled_total{{outcome!="ack"}}[{WINDOW}]))',
    "gateways": f"sum by (instance) (rate({_CALLS}[{WINDOW}]))",
    "edge": _gateway("edge"),
    "edge faults json": _gateway("faults", faults.SELECTORS[0]),
    "edge faults grpc": _gateway("faults", faults.SELECTORS[1]),
    "edge refusals": _gateway("refusals", 'reason!=""'),
    "edge p50": _gateway_time(0.5, "owner, "),
    "edge p99": _gateway_time(0.99, "owner, "),
    "clients p50": _gateway_time(0.5),
    "clients p99": _gateway_time(0.99),
    "peers": _peers(),
    "peer faults": _peers(f'code=~"{_FAULT_CODES}"'),
    "peer p50": _peer_time(0.5),
    "peer p99": _peer_time(0.99),
    "transactions": f"sum by (service, database) (rate(weft_db_transactions_total[{WINDOW}]))",
    "transaction faults": (
        "sum by (service, database) "
        f'(rate(weft_db_transactions_total{{outcome=~"unknown|unavailable|aborted|deadline"}}[{WINDOW}]))'
    ),
    "transaction retries": f"sum by (database) (rate(weft_db_retries_total[{WINDOW}]))",
    "cache": f"sum by (service, entry, result) (rate(weft_cache_requests_total[{WINDOW}]))",
    "published": f"sum by (service) (rate(weft_outbox_published_total[{WINDOW}]))",
    "delivered": f"sum by (service, queue) (rate(weft_events_handled_total[{WINDOW}]))",
    "deliveries failed": f'sum by (service, queue) (rate(weft_events_handled_total{{outcome!="ack"}}[{WINDOW}]))',
    "outbox": "max by (database) (weft_outbox_pending)",
    "outbox age": "max by (database) (weft_outbox_oldest_seconds)",
    "depth": "max by (queue) (weft_queue_depth)",
    "database up": "max(pg_up)",
    "connections": 'sum by (datname) (pg_stat_activity_count{datname!=""})',
    "cache up": "memcached_up",
    "cache items": "memcached_current_items",
    "cache bytes": "memcached_current_bytes",
    "cache limit": "memcached_limit_bytes",
    "cache evictions": f"rate(memcached_items_evicted_total[{WINDOW}])",
    "etcd up": 'up{service="etcd"}',
    "etcd has leader": "etcd_server_has_leader",
    "etcd leads": "etcd_server_is_leader",
    "etcd size": "etcd_mvcc_db_total_size_in_bytes",
    "etcd limit": "etcd_server_quota_backend_bytes",
    "etcd p99": (
        "histogram_quantile(0.99, sum by (instance, le) "
        f"(rate(etcd_disk_backend_commit_duration_seconds_bucket[{SELDOM}])))"
    ),
}

_NAME: Final = "asked"


@dataclass(frozen=True, slots=True)
class Sample:
    """One figure and what it is about."""

    labels: Mapping[str, str]
    value: float


class Figures:
    """The answers to all questions, of one moment."""

    def __init__(self, samples: Mapping[str, Iterable[Sample]]) -> None:
        self._samples = {name: tuple(found) for name, found in samples.items()}

    def all(self, question: str) -> tuple[Sample, ...]:
        """Every figure of one question."""
        if question not in QUESTIONS:
            raise KeyError(question)
        return self._samples.get(question, ())

    def one(self, question: str, **labels: str) -> float | None:
        """The sum of the figures that are about this; None where there is none."""
        found = [
            sample.value
            for sample in self.all(question)
            if all(sample.labels.get(name, "") == value for name, value in labels.items())
        ]
        return sum(found) if found else None

    def sums(self, question: str, key: Callable[[Mapping[str, str]], str]) -> Mapping[str, float]:
        """The figures of one question, added up by what `key` makes of their labels; "" is left out."""
        found: dict[str, float] = defaultdict(float)
        for sample in self.all(question):
            if about := key(sample.labels):
                found[about] += sample.value
        return found


def expression() -> str:
    """All questions as one."""
    return "\nor ".join(f'label_replace({asked}, "{_NAME}", "{name}", "", "")' for name, asked in QUESTIONS.items())


def parse(answer: Any) -> Figures:
    """The figures of an answer of `/api/v1/query`, without those that are no number. Raises ValueError."""
    found: dict[str, list[Sample]] = defaultdict(list)
    try:
        for series in answer["data"]["result"]:
            labels = {str(name): str(value) for name, value in series["metric"].items()}
            value = float(series["value"][1])
            if math.isfinite(value):
                found[labels.pop(_NAME)].append(Sample(labels, value))
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError("not an answer of Prometheus") from error
    return Figures(found)
