"""The gRPC xDS bootstrap: tells gRPC C-core where the control planes are.

A process installs it before it opens its first `xds:///` channel; gRPC reads the variable once and never again.
"""

import json
from collections.abc import MutableMapping, Sequence
from typing import Final

#: The variable gRPC C-core reads. The file form (GRPC_XDS_BOOTSTRAP) would win over it, so `install` removes that.
VARIABLE: Final = "GRPC_XDS_BOOTSTRAP_CONFIG"
_FILE_VARIABLE: Final = "GRPC_XDS_BOOTSTRAP"


def document(control_planes: Sequence[str], *, instance: str, service: str, zone: str = "") -> str:
    """Bootstrap JSON of one client. Every control plane is named: gRPC falls back from one to the next by itself.

    `zone`: where the client runs; it is sent to instances of the same zone first.
    """
    if not control_planes:
        raise ValueError("no control plane is named: give WEFT_XDS as `host:port[,host:port...]`")
    return json.dumps(
        {
            "xds_servers": [
                {"server_uri": server, "channel_creds": [{"type": "insecure"}], "server_features": ["xds_v3"]}
                for server in control_planes
            ],
            "node": {"id": instance, "cluster": service, "locality": {"zone": zone}, "metadata": {"kind": "grpc"}},
        }
    )


def install(
    environ: MutableMapping[str, str], control_planes: Sequence[str], *, instance: str, service: str, zone: str = ""
) -> None:
    """Write the bootstrap into `environ`. Call it before the first channel of the process."""
    environ.pop(_FILE_VARIABLE, None)
    environ[VARIABLE] = document(control_planes, instance=instance, service=service, zone=zone)
