"""What the supervisor exposes to Prometheus: its processes, its recoveries, and memcached, which exposes nothing."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deploy.supervisor.messages import Process
from deploy.supervisor.probe import HOST

CACHE_TIMEOUT_S: Final = 1.0
STATS_BYTES_MAX: Final = 64 * 1024

#: `stats` of memcached's text protocol: its name, ours, what it says. Names are those of Prometheus' own exporter.
_GAUGES: Final = (
    ("curr_connections", "memcached_current_connections", "Open connections."),
    ("curr_items", "memcached_current_items", "Items stored now."),
    ("bytes", "memcached_current_bytes", "Bytes that items take."),
    ("limit_maxbytes", "memcached_limit_bytes", "Bytes that items may take."),
    ("uptime", "memcached_uptime_seconds", "Seconds since the start."),
)
_COUNTERS: Final = (
    ("get_hits", "memcached_get_hits", "Look-ups that found the item."),
    ("get_misses", "memcached_get_misses", "Look-ups that found nothing."),
    ("cmd_set", "memcached_sets", "Items stored since the start."),
    ("evictions", "memcached_items_evicted", "Items thrown out to make room."),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the supervisor knows at one moment."""

    processes: Sequence[Process]
    recoveries: Mapping[tuple[str, str], int]
    """Decisions by action and outcome."""
    lanes: Mapping[str, bool] = field(default_factory=dict)
    """Of each lane, whether it was rolled back."""


def expose(snapshot: Snapshot) -> bytes:
    """The exposition, in Prometheus' text format. Blocking: asks every memcached, a second at the most for each."""
    registry = CollectorRegistry()
    registry.register(_Known(snapshot))
    return generate_latest(registry)


class _Known(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        yield from _processes(self._snapshot.processes)
        yield _recoveries(self._snapshot.recoveries)
        yield _lanes(self._snapshot.lanes)
        yield from _caches([each for each in self._snapshot.processes if each.kind == "memcached"])


def _processes(processes: Sequence[Process]) -> Iterator[Metric]:
    labels = ("instance", "service", "kind")
    ready = GaugeMetricFamily("weft_process_ready", "1 while the supervisor finds the process ready.", labels=labels)
    quarantined = GaugeMetricFamily(
        "weft_process_quarantined", "1 while a process that died again and again is tried rarely.", labels=labels
    )
    restarts = CounterMetricFamily("weft_process_restarts", "Starts after the first one.", labels=labels)
    memory = GaugeMetricFamily(
        "weft_process_resident_bytes",
        "Resident memory, children included, what they share counted for each.",
        labels=labels,
    )
    cpu = CounterMetricFamily("weft_process_cpu_seconds", "CPU time, running children included.", labels=labels)
    running = _running()
    for process in processes:
        values = (process.name, process.service, process.kind)
        ready.add_metric(values, float(process.state == "ready"))
        quarantined.add_metric(values, float(process.quarantined))
        restarts.add_metric(values, process.restarts)
        if process.pid is not None and process.pid in running:
            family = [running[pid] for pid in _family(process.pid, running)]
            memory.add_metric(values, sum(member.resident_bytes for member in family))
            cpu.add_metric(values, sum(member.cpu_seconds for member in family))
    yield from (ready, quarantined, restarts, memory, cpu)


@dataclass(frozen=True, slots=True)
class _Running:
    parent: int
    resident_bytes: int
    cpu_seconds: float


def _running() -> Mapping[int, _Running]:
    """Every process of the machine that can be looked at, in one go: asking each for its children would take many."""
    found = {}
    for process in psutil.process_iter(["ppid", "memory_info", "cpu_times"]):
        info = process.info
        if info["ppid"] is not None and info["memory_info"] is not None and info["cpu_times"] is not None:
            times = info["cpu_times"]
            found[process.pid] = _Running(info["ppid"], info["memory_info"].rss, times.user + times.system)
    return found


def _family(pid: int, running: Mapping[int, _Running]) -> list[int]:
    """A process, and what it started, directly or not."""
    members = [pid]
    for member in members:
        members += [child for child, process in running.items() if process.parent == member and child != member]
    return members


def _recoveries(counts: Mapping[tuple[str, str], int]) -> CounterMetricFamily:
    metric = CounterMetricFamily(
        "weft_recoveries", "What became of alerts that asked for an action.", labels=("action", "outcome")
    )
    for (action, outcome), count in sorted(counts.items()):
        metric.add_metric((action, outcome), count)
    return metric


def _lanes(rolled_back: Mapping[str, bool]) -> GaugeMetricFamily:
    says = "1 where the lane burned its error budget, or died again and again, and was rolled back."
    metric = GaugeMetricFamily("weft_lane_rolled_back", says, labels=("lane",))
    for name, was in sorted(rolled_back.items()):
        metric.add_metric((name,), float(was))
    return metric


def _caches(caches: Sequence[Process]) -> Iterator[Metric]:
    labels = ("instance", "service", "kind")
    up = GaugeMetricFamily("memcached_up", "1 where memcached answers.", labels=labels)
    gauges = {key: GaugeMetricFamily(name, says, labels=labels) for key, name, says in _GAUGES}
    counters = {key: CounterMetricFamily(name, says, labels=labels) for key, name, says in _COUNTERS}
    for cache in caches:
        values, stats = (cache.name, cache.service, cache.kind), cache_stats(int(cache.address.rpartition(":")[2]))
        up.add_metric(values, float(bool(stats)))
        families: Mapping[str, GaugeMetricFamily | CounterMetricFamily] = {**gauges, **counters}
        for key, family in families.items():
            if key in stats:
                family.add_metric(values, float(stats[key]))
    yield from (up, *gauges.values(), *counters.values())


def cache_stats(port: int) -> Mapping[str, str]:
    """`stats` of a memcached; nothing where it does not answer in time."""
    try:
        with socket.create_connection((HOST, port), timeout=CACHE_TIMEOUT_S) as connection:
            connection.sendall(b"stats\r\n")
            reply = b""
            while not reply.endswith(b"END\r\n") and len(reply) < STATS_BYTES_MAX:
                part = connection.recv(4096)
                if not part:
                    return {}
                reply += part
    except OSError:
        return {}
    lines = (line.split(" ", 2) for line in reply.decode("ascii", "replace").splitlines())
    return {words[1]: words[2] for words in lines if len(words) == 3 and words[0] == "STAT"}
