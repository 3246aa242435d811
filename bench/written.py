"""Gateways written by hand, in `bench/envoy/*.yaml`: what the compiled one is compared with.

They are plain files for Envoy, complete but for ports and the paths of two files.
"""

import re
import string
from pathlib import Path
from typing import Final

from bench.load import Target
from bench.report import ROOT
from bench.stand import HOST, Backend, Caller, Stand, free_port
from gateway import contract

#: A filter below the comment that says so: its first line, and all that stands deeper.
_SCRIPT: Final = re.compile(r"^( +)# by a script\n\1- .*\n(?:\1  .*\n)+", re.MULTILINE)


def start(stand: Stand, backend: Backend, caller: Caller, *, name: str, scripts: bool = True) -> Target:
    """A running Envoy with the configuration of that name, with the filters that are scripts or without them."""
    port, admin_port = free_port(), free_port()
    keys, descriptors = stand.folder / f"{name}.keys.json", stand.folder / f"{name}.binpb"
    keys.write_text(caller.keys)
    descriptors.write_bytes(contract.load((ROOT / "protos/gen/contracts.binpb").read_bytes()).descriptors)
    template = string.Template((Path(__file__).parent / "envoy" / f"{name}.yaml").read_text())
    text = template.template if scripts else _SCRIPT.sub("", template.template)
    config = stand.folder / f"{name}-{scripts}.yaml"
    config.write_text(
        string.Template(text).substitute(
            ADMIN_PORT=admin_port, PORT=port, BACKEND_PORT=backend.port, KEYS=keys, DESCRIPTORS=descriptors
        )
    )
    return Target(stand.envoy(config.stem, config, ready=f"http://{HOST}:{admin_port}/ready"), port)
