"""Channel options are strings that gRPC ignores when it does not know them: a misspelt one protects nothing."""

import re
from pathlib import Path

from grpc._cython import cygrpc

ROOT = Path(__file__).resolve().parents[2]
#: Begins like an option and is none: under this key Envoy's spans have the code of a call.
SPAN_TAGS = {"grpc.authority", "grpc.path", "grpc.status_code"}
PACKAGES = ("gateway", "lb", "svc", "worker", "deploy")


def test_every_channel_option_is_one_that_grpc_knows() -> None:
    library = Path(cygrpc.__file__).read_bytes()
    named = {
        (option, path.relative_to(ROOT).as_posix())
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for option in re.findall(r'"(grpc\.[a-z0-9_.]+)"', path.read_text())
        if option not in SPAN_TAGS
    }

    assert ("grpc.keepalive_time_ms", "lb/channel.py") in named
    assert [] == sorted(entry for entry in named if entry[0].encode() + b"\0" not in library)
