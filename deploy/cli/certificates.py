"""The verbs of `weft certificates`: show, renew. Registered by app.py."""

import json
from dataclasses import asdict

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


def renew(json_: Json = False) -> None:
    """Have the gateways show a new certificate now: signed now, or read now from WEFT_TLS_CERT and WEFT_TLS_KEY.

    Connections that are open stay open; new ones get it. It is also renewed by itself, ten days before it ends.

    Example: weft certificates renew
    """
    settings = Settings.from_environ()
    renewed = Mesh(settings.data, settings=settings).renew_certificate()
    print(json.dumps(asdict(renewed), indent=2) if json_ else _told(renewed))


def _told(renewed: Certificate) -> str:
    what = "a new certificate" if renewed.changed else "the files hold the certificate that is shown already, one"
    return f"{what} for {', '.join(renewed.names)}, good until {renewed.expires}"


def _line(value: object) -> str:
    return "-" if value is None else ", ".join(value) if isinstance(value, tuple) else str(value)
