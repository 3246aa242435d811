"""What instances report of their load: processor time from the kernel, the rest from their own metrics. Cheap to ask.

Asked are a few metrics by name, so that an instance puts nothing else together.
"""

import asyncio
import http.client
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode

from deploy.supervisor import autoscale, procfs
from deploy.supervisor.probe import HOST, TIMEOUT_S
from weft_protos import mesh_parts

BUSY, THREADS, WAITING = "weft_rpc_busy_seconds_total", "weft_rpc_threads", "weft_rpc_waiting"
PENDING, DEPTH = "weft_outbox_pending", "weft_queue_depth"
BACKLOG_EACH: Mapping[str, int] = {
    "relay": 1000,
    **{one.process: one.backlog for one in mesh_parts.WORKERS if one.backlog is not None},
}
"""Events that one worker is left with."""
QUEUES: Mapping[str, str] = {one.process: f"weft.{one.name}" for one in mesh_parts.WORKERS}
_LINE = re.compile(r"^([a-z_]+)(\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Instance:
    """One process that is ready."""

    name: str
    pid: int
    metrics_port: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One series."""

    name: str
    labels: str
    value: float


@dataclass(slots=True)
class Loads:
    """Measures services; remembers of each instance what it had done when it was last asked."""

    _had: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By pid: when it was looked at, its processor time."""
    _before: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By pid: when it last answered, the time its threads had been busy."""

    async def of(self, service: str, instances: Sequence[Instance]) -> float | None:
        """The load of a service or worker, in instances; None where nothing is known yet."""
        answers = await asyncio.gather(*(asyncio.to_thread(_scrape, one.metrics_port) for one in instances))
        if service in BACKLOG_EACH:
            backlogs = [_backlog(service, metrics) for metrics in answers if metrics is not None]
            # Every instance of a worker looks at the same queue.
            return autoscale.backlog_load(max(backlogs), each=BACKLOG_EACH[service]) if backlogs else None
        processors = [self._processor(one.pid) for one in instances]
        found = [
            None if metrics is None else self._busy(one, metrics, processor)
            for one, metrics, processor in zip(instances, answers, processors, strict=True)
        ]
        loads = [load for load in found if load is not None]
        if not loads:
            # Too busy to say how busy it is. The processor knows the least of it: enough to grow by, never to shrink.
            at_least = sum(processor or 0.0 for processor in processors)
            return at_least if at_least > autoscale.OUT_AT * len(instances) else None
        # Who has not answered, or was never asked before, is taken to be as busy as the others, if not more.
        others = sum(loads) / len(loads)
        return sum(
            max(others, processor or 0.0) if load is None else load
            for load, processor in zip(found, processors, strict=True)
        )

    def forget(self, alive: set[int]) -> None:
        """Keep nothing of processes that are gone."""
        self._had = {pid: had for pid, had in self._had.items() if pid in alive}
        self._before = {pid: before for pid, before in self._before.items() if pid in alive}

    def _processor(self, pid: int) -> float | None:
        """The share of a core that a process had since it was last looked at, which takes no answer of it."""
        now, cpu_s = asyncio.get_running_loop().time(), procfs.cpu_s(pid)
        had = self._had.get(pid)
        self._had[pid] = (now, cpu_s)
        return None if had is None or now <= had[0] else (cpu_s - had[1]) / (now - had[0])

    def _busy(self, one: Instance, metrics: Sequence[Metric], processor: float | None) -> float | None:
        """The share of an instance that is busy: its one core, or its threads and who waits for them."""
        now, busy_s = asyncio.get_running_loop().time(), _total(metrics, BUSY)
        before = self._before.get(one.pid)
        self._before[one.pid] = (now, busy_s)
        threads = _total(metrics, THREADS)
        if before is None or now <= before[0] or not threads or processor is None:
            return None
        calls = (busy_s - before[1]) / (now - before[0]) + _total(metrics, WAITING)
        return max(processor, calls / threads)


def parse(text: str) -> list[Metric]:
    """The series of an exposition in Prometheus' text format."""
    return [Metric(name, labels or "", float(value)) for name, labels, value in _LINE.findall(text)]


def _total(metrics: Sequence[Metric], name: str) -> float:
    return sum(metric.value for metric in metrics if metric.name == name)


def _backlog(service: str, metrics: Sequence[Metric]) -> float:
    if service not in QUEUES:
        return _total(metrics, PENDING)
    wanted = f'queue="{QUEUES[service]}"'
    return sum(metric.value for metric in metrics if metric.name == DEPTH and wanted in metric.labels)


def _scrape(port: int) -> list[Metric] | None:
    query = urlencode([("name[]", name) for name in (BUSY, THREADS, WAITING, PENDING, DEPTH)])
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/metrics?{query}", headers={"Connection": "close"})
        response = connection.getresponse()
        return parse(response.read().decode()) if response.status == 200 else None
    except (OSError, ValueError, http.client.HTTPException):
        return None  # it has just gone, or is too busy to say
    finally:
        connection.close()
