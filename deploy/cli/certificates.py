"""The verbs of `weft certificates`: show, renew. Registered by app.py."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from deploy.cli.exits import Json
from deploy.supervisor.config import Settings
from deploy.supervisor.desired import Desired
from deploy.supervisor.edge_certificate import EdgeCertificate
from deploy.supervisor.errors import NotRunningError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Certificate


def show(json_: Json = False) -> None:
    """Show which certificate the gateways show over TLS, until when, and what to trust it by.

    Example: weft certificates show
    """
    settings = Settings.from_environ()
    layout = Layout(settings.data)
    given = Desired.read(layout.desired).given() if layout.desired.exists() else None
    kept = EdgeCertificate(layout, given)
    if not kept.certificate.exists():
        raise NotRunningError(f"no mesh was started in {settings.data} yet")
    shown = {
        "names": kept.names(),
        "expires": kept.expires().isoformat(),
        "certificate": str(kept.certificate),
        "authority": None if given else str(layout.authority),
    }
    print(json.dumps(shown, indent=2) if json_ else "\n".join(f"{name:<12} {_line(it)}" for name, it in shown.items()))


def renew(
    workloads: Annotated[
        bool, typer.Option("--workloads", help="Not the gateways', but those that the mesh's parts show each other.")
    ] = False,
    json_: Json = False,
) -> None:
    """Have the gateways show a new certificate now: signed now, or read now from WEFT_TLS_CERT and WEFT_TLS_KEY.

    Connections that are open stay open; new ones get it. It is also renewed by itself, ten days before it ends; those
    of --workloads, which a mesh with WEFT_MTLS has, when half of their 24 hours have passed.

    Example: weft certificates renew --workloads
    """
    settings = Settings.from_environ()
    mesh = Mesh(settings.data, settings=settings)
    renewed = mesh.renew_workload_certificates() if workloads else mesh.renew_certificate()
    if json_:
        print(json.dumps(asdict(renewed), indent=2))
    else:
        print(_told_of_parts(renewed) if workloads else _told(renewed))


def _told(renewed: Certificate) -> str:
    what = "a new certificate" if renewed.changed else "the files hold the certificate that is shown already, one"
    return f"{what} for {', '.join(renewed.names)}, good until {renewed.expires}"


def _told_of_parts(renewed: Certificate) -> str:
    return "\n".join((f"new certificates, good until {renewed.expires}, for", *renewed.names))


def _line(value: object) -> str:
    return "-" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
