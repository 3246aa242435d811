"""Whether the parts of a mesh are there, and whether the registry and the control planes know what is. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from deploy.cli.doctor.finding import Finding, Group
from deploy.supervisor.messages import Process, Status
from deploy.supervisor.part import Kind

PROCESSES: Final = Group("processes")
REGISTRY: Final = Group("registry")
PLANES: Final = Group("control planes")
#: A part that was started again so lately may go on to do so.
LATELY_S: Final = 60.0
#: A client may be behind for as long as a change is under way to it.
BEHIND_S: Final = 10.0
#: Services at their gateways: control planes add them, and no instance is behind them.
EDGE: Final = "edge"
_READY: Final = "ready"
_SHOWN_MAX: Final = 3


def processes(status: Status, *, now: datetime, differences: Sequence[str] = ()) -> Iterator[Finding]:
    """Each part that is not ready, and those that die."""
    ready = [each for each in status.processes if each.state == _READY]
    for each in status.processes:
        if each.quarantined:
            hint = f"mend what `weft logs {each.name}` says, then `weft restart {each.name}`"
            yield PROCESSES.fail(each.name, f"died again and again, last: {each.reason}", hint)
        elif each.state != _READY:
            why = f", {each.reason}" if each.reason else ""
            yield PROCESSES.fail(each.name, f"is {each.state}{why}", f"`weft logs {each.name}` says why")
        elif each.restarts and (now - datetime.fromisoformat(each.since)).total_seconds() < LATELY_S:
            why = f", last: {each.reason}" if each.reason else ""
            yield PROCESSES.warn(
                each.name, f"was started again less than a minute ago{why}", f"`weft logs {each.name}` says why"
            )
    if len(ready) == len(status.processes):
        yield PROCESSES.ok("ready", f"all {len(ready)}")
    if differences:
        told = f"of this shell are not those of the mesh: {', '.join(differences)}"
        yield PROCESSES.warn(
            "settings", told, "set the same WEFT_ variables here, or go by these: `weft down && weft up`"
        )


def leaders(status: Status) -> Iterator[Finding]:
    """Of each cluster of servers exactly one leads."""
    for kind in (Kind.ETCD, Kind.DATABASE):
        members = [each for each in status.processes if each.kind == kind]
        leading = [each.name for each in members if each.role == "leader"]
        name = f"leader of {kind}"
        if len(leading) == 1:
            yield REGISTRY.ok(name, f"{leading[0]} of {len(members)}")
        elif members:
            told = "none" if not leading else f"{len(leading)} at once: {', '.join(leading)}"
            yield REGISTRY.fail(name, told, f"`weft logs {members[0].name}` says how the election goes")


def endpoints(found: Sequence[Mapping[str, Any]], status: Status) -> Iterator[Finding]:
    """What is registered under a lease, beside the processes that run."""
    serving = {each.name: each for each in status.processes if each.kind == Kind.SERVICE and each.state == _READY}
    registered = {each["instance"]: each for each in found if each["service"] != EDGE}
    missing = sorted(serving.keys() - registered.keys())
    strangers = sorted(registered.keys() - {each.name for each in status.processes})
    moved = [name for name in serving.keys() & registered.keys() if serving[name].address != _address(registered[name])]
    dead = sorted(registered.keys() & {each.name for each in status.processes if each.pid is None})
    if missing:
        yield REGISTRY.fail("endpoints", f"{_some(missing)} ready and not registered", _restart(missing))
    if moved:
        yield REGISTRY.fail("endpoints", f"{_some(sorted(moved))} registered at another address", _restart(moved))
    if dead:
        yield REGISTRY.warn("leases", f"{_some(dead)} down and still registered", "they end within seconds; look again")
    if strangers:
        hint = "whoever started them is not this mesh; stop them, or leave them"
        yield REGISTRY.warn("endpoints", f"{_some(strangers)} registered and not started here", hint)
    if not (missing or moved or dead or strangers):
        yield REGISTRY.ok("endpoints and leases", f"{len(registered)} for {len(serving)} instances")
    yield from _versions(registered, serving)


def _versions(registered: Mapping[str, Mapping[str, Any]], serving: Mapping[str, Process]) -> Iterator[Finding]:
    """Stable instances of a service run one version, but for the time of a roll."""
    found: dict[str, set[str]] = {}
    for name in serving.keys() & registered.keys():
        each = registered[name]
        if not each["lane"]:
            found.setdefault(each["service"], set()).add(each["version"])
    mixed = sorted(service for service, versions in found.items() if len(versions) > 1)
    for service in mixed:
        told = f"{service} runs {' and '.join(sorted(found[service]))} at once"
        yield REGISTRY.warn("versions", told, f"`weft roll {service}` brings all to what lies here")


def planes(found: Mapping[str, Any], status: Status) -> Iterator[Finding]:
    """Control planes serve one snapshot, and every client has accepted it. `found`: as `python -m lb proxies` says."""
    yield from _snapshots(found["control_planes"], status)
    clients: Sequence[Mapping[str, Any]] = found["clients"]
    for each in clients:
        if each["state"] == "NACKED":
            words = "; ".join(f"{one['type']}: {' '.join(one['detail'].split())}" for one in each["refusals"])
            yield PLANES.fail(
                each["node"], f"refuses its configuration: {words}", "`weft contracts rollback`, then mend"
            )
        elif each["state"] == "STALE" and each["age_s"] > BEHIND_S:
            hint = f"`weft proxies --watch`, or `weft restart {each['node']}`"
            yield PLANES.warn(each["node"], f"is behind for {each['age_s']:g} s", hint)
    connected = {each["node"] for each in clients}
    alone = sorted(
        each.name
        for each in status.processes
        if each.kind == Kind.GATEWAY and each.state == _READY and each.name not in connected
    )
    if alone:
        yield PLANES.fail("clients", f"{_some(alone)} connected to no control plane", _restart(alone))
    elif all(each["state"] == "SYNCED" for each in clients):
        yield PLANES.ok("clients", f"all {len(connected)} SYNCED")
    else:
        synced = sum(each["state"] == "SYNCED" for each in clients)
        yield PLANES.ok("clients", f"{synced} of {len(clients)} connections SYNCED")


def _snapshots(serving: Sequence[Mapping[str, Any]], status: Status) -> Iterator[Finding]:
    wanted = {each.name for each in status.processes if each.kind == Kind.CONTROL_PLANE and each.state == _READY}
    silent = sorted(wanted - {each["instance"] for each in serving})
    if silent:
        yield PLANES.warn("reports", f"nothing is said by {', '.join(silent)}", _restart(silent))
    for each in serving:
        if each["refused_version"]:
            hint = "mend the contracts and `weft contracts publish`, or `weft contracts rollback`"
            problems = "; ".join(each["problems"])
            yield PLANES.fail(each["instance"], f"refused what was published last: {problems}", hint)
    versions = {each["version"] for each in serving}
    if len(versions) == 1 and (version := next(iter(versions))):
        yield PLANES.ok("snapshot", f"{version[:12]} at all {len(serving)}")
    elif versions == {""} or not versions:
        yield PLANES.fail("snapshot", "nothing is served", "`weft contracts publish`")
    else:
        told = ", ".join(f"{each['instance']} {each['version'][:12] or 'nothing'}" for each in serving)
        yield PLANES.warn("snapshot", told, "it is one within seconds of a change; look again")


def _address(endpoint: Mapping[str, Any]) -> str:
    return f"{endpoint['address']}:{endpoint['port']}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN_MAX} more" if len(names) > _SHOWN_MAX else ""
    return f"{', '.join(names[:_SHOWN_MAX])}{more} {'is' if len(names) == 1 else 'are'}"


def _restart(names: Iterable[str]) -> str:
    return f"`weft logs {next(iter(names))}` says why; `weft restart` starts it anew"
