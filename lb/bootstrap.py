"""The gRPC xDS bootstrap: tells gRPC C-core where the control planes are.

A process installs it before it opens its first `xds:///` channel; gRPC reads the variable once and never again.
"""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from weft_protos.identity import AUTHORITY, CERTIFICATE, KEY, PROVIDER

#: The variable gRPC C-core reads. The file form (GRPC_XDS_BOOTSTRAP) would win over it, so `install` removes that.
VARIABLE: Final = "GRPC_XDS_BOOTSTRAP_CONFIG"
_FILE_VARIABLE: Final = "GRPC_XDS_BOOTSTRAP"
#: How often gRPC looks whether the files of its certificate have changed.
_LOOKS_EVERY: Final = "5s"


@dataclass(frozen=True, slots=True)
class Client:
    """Whose bootstrap it is."""

    instance: str
    service: str
    zone: str = ""
    """Where it runs; it is sent to instances of the same zone first."""
    identity: Path | None = None
    """Directory of its certificate; None: hops of the mesh are in clear."""


def document(control_planes: Sequence[str], client: Client) -> str:
    """Bootstrap JSON of one client. Every control plane is named: gRPC falls back from one to the next by itself."""
    if not control_planes:
        raise ValueError("no control plane is named: give WEFT_XDS as `host:port[,host:port...]`")
    files = None if client.identity is None else _files(client.identity)
    credentials = {"type": "insecure"} if files is None else {"type": "tls", "config": files}
    providers = {PROVIDER: {"plugin_name": "file_watcher", "config": files}}
    return json.dumps(
        {
            "xds_servers": [
                {"server_uri": server, "channel_creds": [credentials], "server_features": ["xds_v3"]}
                for server in control_planes
            ],
            "node": {
                "id": client.instance,
                "cluster": client.service,
                "locality": {"zone": client.zone},
                "metadata": {"kind": "grpc"},
            },
            **({} if files is None else {"certificate_providers": providers}),
        }
    )


def install(environ: MutableMapping[str, str], control_planes: Sequence[str], client: Client) -> None:
    """Write the bootstrap into `environ`. Call it before the first channel of the process."""
    environ.pop(_FILE_VARIABLE, None)
    environ[VARIABLE] = document(control_planes, client)


def _files(folder: Path) -> Mapping[str, Any]:
    """As gRPC's file watcher is told of them (gRFC A29), and its transport to control planes (gRFC A65)."""
    return {
        "certificate_file": str(folder / CERTIFICATE),
        "private_key_file": str(folder / KEY),
        "ca_certificate_file": str(folder / AUTHORITY),
        "refresh_interval": _LOOKS_EVERY,
    }
