"""The manifests of services and workers: what a mesh has to know of one that its contract and its code do not say.

A service is `svc/<name>` with a `service.toml`, a worker that consumes events `worker/handlers/<name>` with a
`worker.toml`. Which there are is read by `mesh_parts`.

    instances = 2          # how many the mesh starts with; 1 where absent
    autoscale = [2, 4]     # sized by its load, between these; never where absent

Of a service alone:

    database = false       # it keeps nothing; where absent it has one of its name, which it migrates

And of a worker alone:

    database = "analytics"   # where its inbox is; its own where absent, which it then migrates
    events = "all"           # it gets every event; where absent, those whose contract names it in `queues`
    backlog = 1000           # events that one instance is left with before there is another
    notes = "deliveries"     # the table that tells what it has handled beside the inbox
    noted = "state = 'out'"  # which of its rows do; all where absent
    owes = "SELECT ..."      # ordering keys whose events it has noted and has still to do something about
    needs = ["mail"]         # parts that must run before it
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SERVICE_FILE: Final = "service.toml"
WORKER_FILE: Final = "worker.toml"
INSTANCES_MAX: Final = 32
#: Envoy divides a bucket by the number of gateways, and a share below one token lets nothing through at all. So no
#: contract has a smaller bucket, no mesh more gateways, and more than these are not counted.
GATEWAYS_MAX: Final = 16


class ManifestError(ValueError):
    """A manifest says something that it cannot mean; the message names file, key and what would be right."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service of the mesh: its package is `svc.<name>`, its database and its cluster bear its name."""

    name: str
    instances: int
    autoscale: tuple[int, int] | None
    has_database: bool = True


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that consumes events: its package is `worker.handlers.<name>`, its queue `weft.<name>`."""

    name: str
    process: str
    """What its instances are called: its name, with `-worker` behind it where a service has that name."""
    instances: int
    autoscale: tuple[int, int] | None
    database: str
    migrates: bool
    """Whether the database is its own."""
    of_all: bool
    """Whether every event reaches it, whatever the contracts say."""
    backlog: int | None
    notes: str
    needs: tuple[str, ...]
    noted: str = ""
    owes: str = ""


def services(root: Path) -> tuple[Service, ...]:
    """The services below a directory such as `svc`, by name. Raises ManifestError."""
    found = []
    for file in sorted(root.glob(f"*/{SERVICE_FILE}")):
        said = _read(file, {"instances", "autoscale", "database"})
        if not isinstance(has_database := said.get("database", True), bool):
            raise ManifestError(f"{file}: database is {has_database!r}; say false where it keeps nothing")
        found.append(Service(file.parent.name, _instances(file, said), _autoscale(file, said), has_database))
    return tuple(found)


def workers(root: Path, services: Collection[Service]) -> tuple[Worker, ...]:
    """The workers below a directory such as `worker/handlers`, by name, beside these services. Raises ManifestError."""
    served = {one.name for one in services}
    stores = sorted(one.name for one in services if one.has_database)
    found = []
    for file in sorted(root.glob(f"*/{WORKER_FILE}")):
        said = _read(
            file, {"instances", "autoscale", "database", "events", "backlog", "notes", "noted", "owes", "needs"}
        )
        name = file.parent.name
        if said.get("events", "all") != "all":
            raise ManifestError(f'{file}: events is {said["events"]!r}; say "all" or nothing')
        database = str(said.get("database", name))
        migrates = "database" not in said
        if migrates and name in served:
            raise ManifestError(f"{file}: database is missing, and {name} is a service's; name one")
        if not migrates and database not in stores:
            raise ManifestError(f"{file}: database is {database!r}; services with one are {', '.join(stores)}")
        backlog = said.get("backlog")
        if backlog is not None and not _whole(backlog, 1, 1_000_000):
            raise ManifestError(f"{file}: backlog is {backlog!r}; give a number of events, 1 to 1000000")
        autoscale = _autoscale(file, said)
        if (autoscale is None) != (backlog is None):
            raise ManifestError(f"{file}: autoscale and backlog go together; give both or none")
        found.append(
            Worker(
                name=name,
                process=f"{name}-worker" if name in served else name,
                instances=_instances(file, said),
                autoscale=autoscale,
                database=database,
                migrates=migrates,
                of_all="events" in said,
                backlog=backlog,
                notes=str(said.get("notes", "")),
                needs=tuple(map(str, said.get("needs", ()))),
                noted=str(said.get("noted", "")),
                owes=str(said.get("owes", "")),
            )
        )
    return tuple(found)


def _read(file: Path, known: Collection[str]) -> Mapping[str, Any]:
    try:
        said = tomllib.loads(file.read_text())
    except ValueError as error:
        raise ManifestError(f"{file}: {error}") from error
    if unknown := sorted(said.keys() - known):
        raise ManifestError(f"{file}: {unknown[0]} means nothing here; known are {', '.join(sorted(known))}")
    return said


def _instances(file: Path, said: Mapping[str, Any]) -> int:
    instances = said.get("instances", 1)
    if not _whole(instances, 1, INSTANCES_MAX):
        raise ManifestError(f"{file}: instances is {instances!r}; give a number from 1 to {INSTANCES_MAX}")
    return int(instances)


def _autoscale(file: Path, said: Mapping[str, Any]) -> tuple[int, int] | None:
    bounds, instances = said.get("autoscale"), _instances(file, said)
    if bounds is None:
        return None
    if not (isinstance(bounds, list) and len(bounds) == 2 and all(_whole(one, 1, INSTANCES_MAX) for one in bounds)):
        raise ManifestError(f"{file}: autoscale is {bounds!r}; give two numbers from 1 to {INSTANCES_MAX}, as [1, 3]")
    least, most = bounds
    if not least <= instances <= most:
        raise ManifestError(f"{file}: instances is {instances}, outside of autoscale, {least} to {most}")
    return least, most


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
