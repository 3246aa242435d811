"""The verbs `backup` and `restore`. Registered by app.py."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deploy.backup import bundle, restoring, taking
from deploy.cli.mesh import places
from deploy.cli.replay import books
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import RefusedError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.record import Record

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def backup(
    target: Annotated[Path, typer.Argument(help="A new directory, or a new file whose name ends in .tar.")],
    keys: Annotated[
        bool, typer.Option("--keys/--no-keys", help="With the keys without which the backup cannot be used elsewhere.")
    ] = True,
    json_: Json = False,
) -> None:
    """Write what all databases of the running mesh hold, while it serves, and the keys to use it.

    Whoever has the backup can sign tokens and in as the operator: keep it as you keep WEFT_DATA/secrets. With --no-keys
    it can be restored where those keys still are, and nowhere else.

    Example: weft backup /var/backups/weft-monday.tar
    """
    settings = Settings.from_environ()
    status = Mesh(settings.data, settings=settings).status()
    layout = Layout(settings.data)
    layout = Layout(settings.data, ha=Desired.read(layout.desired).ha)
    began = time.monotonic()
    manifest = taking.take(target.absolute(), status, layout, keys=keys, tell=_quiet if json_ else _tell)
    if json_:
        print(json.dumps({"backup": str(target.absolute()), **asdict(manifest)}, indent=2))
        return
    print(f"{target} is whole after {time.monotonic() - began:.1f} s: {len(manifest.checksums)} files")
    if keys:
        print("it holds keys of the mesh; keep it as you keep them")


def restore(
    source: Annotated[Path, typer.Argument(help="What `weft backup` has made.")],
    force: Annotated[bool, typer.Option("--force", help="Replace all data of a mesh that is in use.")] = False,
    json_: Json = False,
) -> None:
    """Restore a backup into an empty mesh: one that is down and was never used, or runs and was not used yet.

    Checks every file first. A mesh that runs is stopped for it and started again, and then its books are held against
    each other. Events that somebody has not handled are sent again; so are those that lay in the broker.

    Example: WEFT_DATA=/var/lib/weft-new weft restore /var/backups/weft-monday.tar
    """
    settings = Settings.from_environ()
    mesh = Mesh(settings.data, settings=settings)
    began = time.monotonic()
    with bundle.reading(source.absolute()) as (folder, manifest):
        restoring.known(manifest)
        runs = mesh.running()
        if runs:
            layout = Layout(settings.data)
            if Desired.read(layout.desired).ha != settings.ha:
                raise RefusedError("the mesh that runs has another WEFT_PROFILE; give the same, or `weft down` first")
            if not force:
                restoring.refuse_used(mesh, layout)
            mesh.stop()
        elif Record(Layout(settings.data).processes).survivors():
            raise RefusedError("parts of a mesh without a supervisor run; `weft down` stops them")
        again = restoring.restore(folder, manifest, settings, force=force, tell=_quiet if json_ else _tell)
    even = _start(mesh, settings, quiet=json_) if runs else None
    if json_:
        told = {"restored": sorted(manifest.databases), "create_time": manifest.create_time, "sent_again": again}
        print(json.dumps({**told, "even": even}, indent=2))
    else:
        print(f"restored the state of {manifest.create_time} after {time.monotonic() - began:.1f} s")
        print(f"events to be sent again: {sum(again.values())}")
        print("`weft up` starts the mesh" if even is None else f"the balance is {'even' if even else 'not even'}")
    if even is False:
        raise typer.Exit(1)


def _start(mesh: Mesh, settings: Settings, *, quiet: bool) -> bool:
    """Start a mesh again, wait until its queues are empty, and say whether the books balance."""
    status = mesh.start()
    if not quiet:
        print(places(status, settings))
    environment = {**child_environ(), "WEFT_SECRETS": str(mesh.secrets)}
    try:
        rows = books.settle(environment, str(status.urls["mail"]).rstrip("/"), on_wait=lambda _: None)
    except books.FactsError as error:
        raise RefusedError(str(error)) from error
    for row in rows:
        if not row.even and not quiet:
            print(f"  {row.name}: {row.left}, {row.right}")
    return all(row.even for row in rows)


def _tell(name: str, seconds: float, size: int) -> None:
    print(f"  {name:<10} {seconds:6.1f} s  {size / 1e6:8.1f} MB", flush=True)


def _quiet(_name: str, _seconds: float, _size: int) -> None:
    return
