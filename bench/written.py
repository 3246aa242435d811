"""Gateways written by hand, in `bench/envoy/*.yaml`: what the compiled one is compared with.

They are plain files for Envoy, complete but for ports and the paths of two files.
"""

import string
from pathlib import Path

from bench.load import Target
from bench.report import ROOT
from bench.stand import HOST, Backend, Caller, Stand, free_port
from gateway import contract


def start(stand: Stand, backend: Backend, caller: Caller, *, name: str) -> Target:
    """A running Envoy with the configuration of that name."""
    port, admin_port = free_port(), free_port()
    keys, descriptors = stand.folder / f"{name}.keys.json", stand.folder / f"{name}.binpb"
    keys.write_text(caller.keys)
    descriptors.write_bytes(contract.load((ROOT / "protos/gen/contracts.binpb").read_bytes()).descriptors)
    template = string.Template((Path(__file__).parent / "envoy" / f"{name}.yaml").read_text())
    config = stand.folder / f"{name}.yaml"
    config.write_text(
        template.substitute(
            ADMIN_PORT=admin_port, PORT=port, BACKEND_PORT=backend.port, KEYS=keys, DESCRIPTORS=descriptors
        )
    )
    return Target(stand.envoy(name, config, ready=f"http://{HOST}:{admin_port}/ready"), port)
