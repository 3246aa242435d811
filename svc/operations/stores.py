"""How databases, cache and etcd do, as measured. Pure."""

from collections.abc import Iterable, Sequence

from svc.operations import names
from svc.operations.figures import Figures
from weft.operations.v1 import mesh_pb2


def databases(processes: Sequence[mesh_pb2.Process], figures: Figures) -> list[mesh_pb2.Database]:
    """Every database that somebody uses, by name."""
    questions = ("transactions", "outbox", "transaction retries")
    found = {sample.labels.get("database", "") for name in questions for sample in figures.all(name)} - {""}
    members = [each for each in processes if each.service == names.DATABASE]
    leader = next((each for each in members if each.role == "leader"), members[0] if len(members) == 1 else None)
    return [_database(name, "" if leader is None else names.last(leader.name), figures) for name in sorted(found)]


def _database(name: str, leader: str, figures: Figures) -> mesh_pb2.Database:
    made = mesh_pb2.Database(name=name, leader=leader)
    if (up := figures.one("database up")) is not None:
        made.up = up > 0
    if (rate := figures.one("transactions", database=name)) is not None:
        made.transaction_rate = rate
        made.error_rate = figures.one("transaction faults", database=name) or 0.0
        made.retry_rate = figures.one("transaction retries", database=name) or 0.0
    if (open_ := figures.one("connections", datname=name)) is not None:
        made.connections = int(open_)
    if (pending := figures.one("outbox", database=name)) is not None:
        made.outbox_events = int(pending)
    if (age := figures.one("outbox age", database=name)) is not None:
        made.outbox_age_seconds = age
    return made


def cache_entries(figures: Figures) -> list[mesh_pb2.CacheEntry]:
    """What the cache does for each method that is cached, by name."""
    methods = {sample.labels.get("entry", "") for sample in figures.all("cache")} - {""}
    return [_cache_entry(method, figures) for method in sorted(methods)]


def _cache_entry(method: str, figures: Figures) -> mesh_pb2.CacheEntry:
    rate = figures.one("cache", entry=method) or 0.0
    made = mesh_pb2.CacheEntry(method=method, rate=rate)
    made.error_rate = figures.one("cache", entry=method, result="error") or 0.0
    if rate > 0:
        made.hit_ratio = min(1.0, (figures.one("cache", entry=method, result="hit") or 0.0) / rate)
    return made


def cache_nodes(processes: Iterable[mesh_pb2.Process], figures: Figures) -> list[mesh_pb2.CacheNode]:
    """The nodes of the cache, by name."""
    made = []
    for process in _of(processes, mesh_pb2.KIND_MEMCACHED):
        about = names.last(process.name)
        node = mesh_pb2.CacheNode(process=about, up=_is_up(process, figures.one("cache up", instance=about)))
        if (items := figures.one("cache items", instance=about)) is not None:
            node.entries = int(items)
        if (used := figures.one("cache bytes", instance=about)) is not None:
            node.used_bytes = int(used)
        if (limit := figures.one("cache limit", instance=about)) is not None:
            node.limit_bytes = int(limit)
        if (evicted := figures.one("cache evictions", instance=about)) is not None:
            node.eviction_rate = evicted
        made.append(node)
    return made


def registry_members(processes: Iterable[mesh_pb2.Process], figures: Figures) -> list[mesh_pb2.RegistryMember]:
    """The members of etcd, by name."""
    made = []
    for process in _of(processes, mesh_pb2.KIND_ETCD):
        about = names.last(process.name)
        member = mesh_pb2.RegistryMember(process=about, up=_is_up(process, figures.one("etcd up", instance=about)))
        if (has_leader := figures.one("etcd has leader", instance=about)) is not None:
            member.has_leader = has_leader > 0
        if (leads := figures.one("etcd leads", instance=about)) is not None:
            member.leader = leads > 0
        if (size := figures.one("etcd size", instance=about)) is not None:
            member.size_bytes = int(size)
        if (limit := figures.one("etcd limit", instance=about)) is not None:
            member.limit_bytes = int(limit)
        if (commit := figures.one("etcd p99", instance=about)) is not None:
            member.commit_p99_seconds = commit
        made.append(member)
    return made


def _of(processes: Iterable[mesh_pb2.Process], kind: mesh_pb2.Kind.ValueType) -> list[mesh_pb2.Process]:
    return [process for process in processes if process.kind == kind]


def _is_up(process: mesh_pb2.Process, measured: float | None) -> bool:
    """Whether it answers: the supervisor knows first, and a figure may say that it does not answer all the same."""
    ready = process.state == mesh_pb2.Process.STATE_READY
    return ready and measured != 0
