"""What the gateway compiles from the contracts, served to gRPC's own client: compiler and control plane agree."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client import REGISTRY

from gateway.envoy import bootstrap
from gateway.envoy.bootstrap import Address
from lb.__main__ import read_bundle
from lb.xds.bundle import STATIC_CLUSTERS, parse
from lb.xds.types import ORDER, short
from tests.unit.lb import sample
from tests.unit.lb.conftest import DEADLINE_S, Client, ControlPlane


def test_the_clusters_that_need_no_resource_are_those_of_every_gateway_s_bootstrap() -> None:
    settings = bootstrap.Settings("gateway-1", [Address("127.0.0.1", 1)], None, 2, Path("admin"))

    assert STATIC_CLUSTERS == {each.name for each in bootstrap.build(settings).static_resources.clusters}


def test_a_grpc_client_accepts_what_is_compiled(
    control_plane: ControlPlane,
    client_of: Callable[..., Client],
    backend: Callable[[str], int],
    tmp_path: Path,
) -> None:
    compile_ = [sys.executable, "-m", "gateway", "compile", "--out", str(tmp_path / "bundle")]
    subprocess.run(compile_, check=True, timeout=DEADLINE_S, capture_output=True)
    bundle = parse(*read_bundle(tmp_path / "bundle"))
    labels = [{"kind": "grpc", "type": short(type_url)} for type_url in ORDER]
    before = [REGISTRY.get_sample_value("weft_xds_nacks_total", label) for label in labels]

    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", backend("one"))]))
    control_plane.feeding(lambda feed: feed.set_keys(sample.KEYS.encode()))
    control_plane.feeding(lambda feed: feed.set_bundle(bundle))

    assert {"answer": "one"} == client_of().ask("call", 10)
    assert before == [REGISTRY.get_sample_value("weft_xds_nacks_total", label) for label in labels]
