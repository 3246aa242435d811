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

    _before: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    """By pid: when it was asked, its processor time, the time its threads had been busy."""

    async def of(self, service: str, instances: Sequence[Instance]) -> float | None:
        """The load of a service or worker, in instances; None where nothing is known yet."""
        answers = await asyncio.gather(*(asyncio.to_thread(_scrape, one.metrics_port) for one in instances))
        found = [(one, metrics) for one, metrics in zip(instances, answers, strict=True) if metrics is not None]
        if service in BACKLOG_EACH:
            backlogs = [_backlog(service, metrics) for _, metrics in found]
            # Every instance of a worker looks at the same queue.
            return autoscale.backlog_load(max(backlogs), each=BACKLOG_EACH[service]) if backlogs else None
        loads = [load for one, metrics in found if (load := self._busy(one, metrics)) is not None]
        # Who has not answered, or was never asked before, is taken to be as busy as the others.
        return sum(loads) / len(loads) * len(instances) if loads else None

    def forget(self, alive: set[int]) -> None:
        """Keep nothing of processes that are gone."""
        self._before = {pid: before for pid, before in self._before.items() if pid in alive}

    def _busy(self, one: Instance, metrics: Sequence[Metric]) -> float | None:
        """The share of an instance that is busy: its one core, or its threads and who waits for them."""
        now = asyncio.get_running_loop().time()
        cpu_s, busy_s = procfs.cpu_s(one.pid), _total(metrics, BUSY)
        before = self._before.get(one.pid)
        self._before[one.pid] = (now, cpu_s, busy_s)
        threads = _total(metrics, THREADS)
        if before is None or now <= before[0] or not threads:
            return None
        seconds = now - before[0]
        calls = (busy_s - before[2]) / seconds + _total(metrics, WAITING)
        return max((cpu_s - before[1]) / seconds, calls / threads)


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
        return None  # it has just gone, or is too busy to say; others speak for it
    finally:
        connection.close()
