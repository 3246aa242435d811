"""The verbs of `weft export`: compose, kubernetes, secrets. Registered by app.py."""

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deploy.cli import exits
from deploy.cli.exits import Json, fail
from deploy.ship import export
from deploy.ship import secrets as keeping
from deploy.ship.errors import ShipError
from deploy.ship.ours import EDGE_NAME
from deploy.supervisor.errors import ConfigError


class Form(StrEnum):
    """What a mesh runs in."""

    COMPOSE = "compose"
    KUBERNETES = "kubernetes"


Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Directory to write or replace.")]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 where a file is not what it should be.")]


def compose(out: Out = None, check: Check = False, json_: Json = False) -> None:
    """Write the desired state as a compose file: sizes, settings, networks, secrets, who starts after whom.

    Example: weft export compose
    """
    _export(Form.COMPOSE, out, check=check, as_json=json_)


def kubernetes(out: Out = None, check: Check = False, json_: Json = False) -> None:
    """Write the desired state as Kubernetes objects, with their autoscaling, probes, policies and certificates.

    Example: weft export kubernetes --out build/k8s
    """
    _export(Form.KUBERNETES, out, check=check, as_json=json_)


def secrets(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where they are kept; nobody else may read there.")],
    form: Annotated[Form, typer.Option("--for", help="Who reads them.")],
    edge_name: Annotated[str, typer.Option("--edge-name", metavar="NAME", help="What clients ask for.")] = EDGE_NAME,
    json_: Json = False,
) -> None:
    """Make the passwords, keys and URLs that containers read as files; what is there already stays.

    For compose also an authority and what it signs, anew where that ends within sixty days.

    Example: weft export secrets deploy/compose/secrets --for compose --edge-name shop.example
    """
    try:
        made = keeping.make(form.value, folder, edge_name=edge_name, now=datetime.now(UTC))
    except (ShipError, ConfigError) as error:
        fail(exits.USAGE, str(error))
    except OSError as error:
        fail(exits.FAILED, f"{error.filename}: {error.strerror}")
    if json_:
        print(json.dumps({"out": str(folder.resolve()), "files": made}))
    else:
        print(f"{len(made)} secrets that containers read -> {folder}; keep them as you keep a password")


def _export(form: Form, out: Path | None, *, check: bool, as_json: bool) -> None:
    folder = out or export.FORMS[form.value]
    try:
        changed = export.stale(form.value, folder) if check else export.write(form.value, folder)
    except ShipError as error:
        fail(exits.USAGE, str(error))
    except OSError as error:
        fail(exits.FAILED, f"{error.filename}: {error.strerror}")
    if as_json:
        print(json.dumps({"out": str(folder.resolve()), "changed": changed}))
    elif not check:
        print(f"{form.value} -> {folder}: " + (f"{len(changed)} files changed" if changed else "nothing changed"))
    if check and changed:
        fail(exits.FAILED, f"{len(changed)} files are not what they should be, {changed[0]} among them")
