"""Whether broker, databases and caches do what the mesh relies on. Pure: values in, findings out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from deploy.cli.doctor.finding import Finding, Group
from weft_protos import mesh_parts

BROKER: Final = Group("broker")
DATABASES: Final = Group("databases")
CACHES: Final = Group("caches")

#: Beside what waits for a moment: workers take hundreds a second.
WAITING_MAX: Final = 1000
#: Behind its leader; reads of bounded staleness are asked of no standby that is further behind than they allow.
LAG_S: Final = 10.0
#: Tokens and leases live for minutes; certificates have a minute to spare.
SKEW_WARN_S: Final = 1.0
SKEW_FAIL_S: Final = 5.0
_DEAD: Final = ".dead"
_RETRY: Final = ".retry."
_PREFIX: Final = "weft."
#: What a worker is called as a process; a service may have its name.
_PROCESSES: Final = {one.name: one.process for one in mesh_parts.WORKERS}
_ALARMS: Final = {
    "rabbitmq_alarms_memory_used_watermark": "memory",
    "rabbitmq_alarms_free_disk_space_watermark": "disk",
    "rabbitmq_alarms_file_descriptor_limit": "open files",
}
_CONSUMERS: Final = "rabbitmq_detailed_queue_consumers"
_READY: Final = "rabbitmq_detailed_queue_messages_ready"
_DEPTH: Final = "rabbitmq_detailed_queue_messages"


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue, as the broker counts."""

    consumers: int = 0
    ready: int = 0
    messages: int = 0


def queues_of(exposition: str) -> dict[str, Queue]:
    """Our queues by name, of a node's metrics by queue (`/metrics/detailed`)."""
    found: dict[str, dict[str, int]] = {}
    keys = {_CONSUMERS: "consumers", _READY: "ready", _DEPTH: "messages"}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            queue = sample.labels.get("queue", "")
            if sample.name in keys and queue.startswith(_PREFIX):
                found.setdefault(queue, {})[keys[sample.name]] = int(sample.value)
    return {name: Queue(**values) for name, values in sorted(found.items())}


def alarms_of(exposition: str) -> list[str]:
    """What a node is short of, of its metrics (`/metrics`)."""
    return sorted(
        _ALARMS[sample.name]
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name in _ALARMS and sample.value
    )


def broker(queues: Mapping[str, Queue], alarms: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """`alarms`: what each node is short of."""
    for node, short in alarms.items():
        if short:
            told = f"{node} is short of {', '.join(short)}, and makes publishers wait"
            yield BROKER.fail("alarms", told, "docs/runbooks/BrokerBlocksPublishers.md")
    if alarms and not any(alarms.values()):
        yield BROKER.ok("alarms", "none")
    work = {name: queue for name, queue in queues.items() if not name.endswith(_DEAD) and _RETRY not in name}
    idle = [name for name, queue in work.items() if not queue.consumers]
    full = [f"{name} {queue.ready}" for name, queue in work.items() if queue.ready > WAITING_MAX]
    if not work:
        yield BROKER.fail("queues", "there are none", "workers declare them; `weft status` shows whether any run")
    elif idle:
        worker = idle[0].removeprefix(_PREFIX)
        hint = f"`weft logs {_PROCESSES.get(worker, worker)}` says why"
        yield BROKER.fail("consumers", f"nobody consumes {', '.join(idle)}", hint)
    else:
        yield BROKER.ok("consumers", f"{sum(queue.consumers for queue in work.values())} of {len(work)} queues")
    if full:
        hint = "`weft scale` has more workers; docs/runbooks/QueueBacklog.md"
        yield BROKER.warn("waiting", f"{', '.join(full)} messages", hint)
    elif work:
        yield BROKER.ok("waiting", f"{sum(queue.ready for queue in work.values())} messages")
    letters = [
        f"{queue.messages} of {name.removeprefix(_PREFIX).removesuffix(_DEAD)}"
        for name, queue in queues.items()
        if name.endswith(_DEAD) and queue.messages
    ]
    if letters:
        hint = "`weft dlq list` says why; mend the cause, then `weft dlq replay`"
        yield BROKER.warn("dead letters", ", ".join(letters), hint)
    elif queues:
        yield BROKER.ok("dead letters", "none")


def databases(found: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """As `python -m svc.chassis.inspection` says."""
    for each in found:
        if each["error"]:
            hint = "docs/runbooks/DatabaseDown.md; `weft status` shows the server"
            yield DATABASES.fail(each["name"], f"does not answer: {each['error']}", hint)
    answered = [each for each in found if not each["error"]]
    weak = [f"{each['name']} has {each['isolation']}" for each in answered if each["isolation"] != "serializable"]
    if weak:
        hint = "nothing is safe to repeat then: stop, and see how the server or a proxy before it changes transactions"
        yield DATABASES.fail("isolation", ", ".join(weak), hint)
    elif answered:
        yield DATABASES.ok("isolation", f"serializable in all {len(answered)}")
    behind = [
        f"{each['name']} is at {each['revision'] or 'nothing'} and not at {each['head']}"
        for each in answered
        if each["revision"] != each["head"]
    ]
    if behind:
        yield DATABASES.fail("migrations", ", ".join(behind), "`weft down && weft up` applies what is missing")
    elif answered:
        yield DATABASES.ok("migrations", "at head")
    if answered:
        yield skew(DATABASES, "clock", max((each["clock_s"] for each in answered), key=abs))


@dataclass(frozen=True, slots=True)
class Standby:
    """One standby, as its leader sees it."""

    name: str
    state: str
    lag_s: float


def replicas(found: Sequence[Standby], *, wanted: int) -> Iterator[Finding]:
    """`wanted`: standbys that there should be."""
    if not wanted:
        return
    for each in found:
        if each.state != "streaming":
            yield DATABASES.warn(each.name, f"is {each.state}, not streaming", f"`weft logs {each.name}` says why")
        elif each.lag_s > LAG_S:
            hint = "reads go to the leader meanwhile; `weft logs` says what it waits for"
            yield DATABASES.warn(each.name, f"is {each.lag_s:.1f} s behind its leader", hint)
    if len(found) < wanted:
        yield DATABASES.warn(
            "standbys", f"{len(found)} of {wanted}", "one more that fails may stop writes; `weft status` shows which"
        )
    elif all(each.state == "streaming" and each.lag_s <= LAG_S for each in found):
        yield DATABASES.ok("standbys", f"{len(found)}, {max((each.lag_s for each in found), default=0.0):.1f} s behind")


def caches(stats: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """`stats`: of each memcached, nothing where it does not answer."""
    away = [name for name, found in stats.items() if not found]
    if away:
        hint = "reads go to the database meanwhile; docs/runbooks/CacheDown.md"
        yield CACHES.fail("memcached", f"no answer from {', '.join(away)}", hint)
    elif stats:
        versions = sorted({found.get("version", "?") for found in stats.values()})
        yield CACHES.ok("memcached", f"{len(stats)} answer, {' and '.join(versions)}")


def ahead(said: tuple[float, float], asked: tuple[float, float]) -> float:
    """By how much another clock is ahead of ours at the least, in seconds; 0 where both may show the same.

    `said`: between which times it says that it is; `asked`: between which of ours it must have said so. However long an
    answer took, it makes no difference where there is none.
    """
    if said[0] > asked[1]:
        return said[0] - asked[1]
    return min(0.0, said[1] - asked[0])


def skew(group: Group, name: str, ahead_s: float) -> Finding:
    """By how much another clock is ahead of ours."""
    told = f"{abs(ahead_s):.1f} s {'ahead' if ahead_s > 0 else 'behind'}"
    hint = "keep all clocks in step, such as with chrony: tokens and leases end by them"
    if abs(ahead_s) > SKEW_FAIL_S:
        return group.fail(name, told, hint)
    return group.warn(name, told, hint) if abs(ahead_s) > SKEW_WARN_S else group.ok(name, "in step")
