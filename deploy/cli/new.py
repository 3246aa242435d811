"""The verb `weft new service`: everything a service needs, in folders of its own. Registered by app.py."""

import json
import re
import sys
from typing import Annotated

import typer
from google.api import annotations_pb2

from deploy.cli import exits
from deploy.cli.exits import Json, fail
from deploy.cli.scaffold import files
from deploy.cli.scaffold.names import NameRefusedError, Names, Taken, named
from deploy.supervisor.config import PROJECT
from deploy.supervisor.desired import DEFAULT_SIZES
from weft_protos import mesh_parts, policy

_SEGMENT = re.compile(r"/v[0-9]+/(?:\{[^}=]+=)?([A-Za-z0-9]+)")


def service(
    name: Annotated[str, typer.Argument(help="Letters a to z, usually a plural: parcels.")],
    resource: Annotated[
        str, typer.Option("--resource", metavar="NAME", help="What it keeps, singular; from its name where absent.")
    ] = "",
    with_events: Annotated[
        bool, typer.Option("--with-events", help="Tell of what is created by an event, and make a worker for it.")
    ] = False,
    json_: Json = False,
) -> None:
    """Make a service: contract, handlers, use cases, store, migration, wiring, manifest and tests.

    It has its own folders, and beside them only generated code changes: the mesh finds it by its manifest, gateway,
    limits, traces, scopes and alerts come from its contract. The next `weft up` starts it.

    Example: weft new service parcels --with-events
    """
    if not (PROJECT / "protos" / "weft").is_dir():
        fail(exits.USAGE, f"{PROJECT} is no clone of the project, so there is nothing to add a service to")
    try:
        names = named(name, resource, _taken())
    except NameRefusedError as error:
        fail(exits.USAGE, str(error))
    made = files.rendered(names, events=with_events)
    if there := sorted(path for path in made if (PROJECT / path).exists()):
        fail(exits.USAGE, f"{there[0]} is there already; remove it, or choose another name")
    try:
        files.write(PROJECT, made)
    except files.ToolFailedError as error:
        for line in error.lines:
            print(f"weft: {line}", file=sys.stderr)
        fail(exits.FAILED, f"{error}; nothing was made")
    except OSError as error:
        fail(exits.FAILED, f"{error.filename}: {error.strerror}; nothing was made")
    following = _next(names)
    if json_:
        print(json.dumps({"service": name, "resource": names.resource, "files": list(made), "next": following}))
        return
    for path in made:
        print(f"  {path}")
    print(f"{name} is made: {len(made)} files, and what is generated. Next:")
    for command in following:
        print(f"  {command}")


def _next(names: Names) -> list[str]:
    scopes = f"--scope {names.service}.read --scope {names.service}.write"
    return [
        "weft down; weft up",
        f'curl -H "authorization: Bearer $(weft token {scopes})" http://127.0.0.1:8080/v1/{names.collection} '
        """-d '{"display_name": "The first"}'""",
        f"make test ARGS='tests/unit/svc/{names.service} tests/integration/test_{names.service}.py'",
    ]


def _taken() -> Taken:
    methods = [method for each in policy.SERVICES for method in each.methods]
    return Taken(
        services={
            *DEFAULT_SIZES,
            *mesh_parts.DATABASES,
            *(one.name for one in mesh_parts.WORKERS),
            *(path.name for folder in ("svc", "protos/weft") for path in (PROJECT / folder).iterdir() if path.is_dir()),
        },
        methods={method.name for method in methods},
        collections={
            segment
            for method in methods
            for rule in [method.GetOptions().Extensions[annotations_pb2.http]]
            for binding in (rule, *rule.additional_bindings)
            for segment in _SEGMENT.findall(getattr(binding, binding.WhichOneof("pattern") or "get"))
        },
    )
