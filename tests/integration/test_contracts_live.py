"""Contracts published to a running mesh: a new limit is in force, a rollback takes it back, a refusal hurts nobody."""

import hashlib
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.shop import Shop
from tests.integration.steady_load import SteadyLoad
from tests.integration.weft_command import weft_here
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from weft.options.v1 import policy_pb2
from weft_protos.xds import message_class

ALERT_WITHIN_S = 10.0
CALLS = 60
Weft = Callable[..., dict[str, Any]]


@pytest.fixture
def weft(mesh: Mesh) -> Weft:
    """`weft contracts ... --json` against the mesh; checks the exit code and returns the object."""

    def run(*arguments: str, code: int = 0) -> dict[str, Any]:
        done = weft_here(mesh.secrets.parent, "contracts", *arguments, "--json")
        assert code == done.returncode, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return run


@pytest.fixture(autouse=True)
def _restored(mesh: Mesh, weft: Weft, tmp_path: Path) -> Iterator[None]:
    """Whatever a test published, the mesh goes on with what it had."""
    before = _fetch(mesh, tmp_path / "before")
    yield
    while _fetch(mesh, tmp_path / "after") != before:
        weft("rollback", "--wait")


@pytest.fixture
def narrow(clone: Path, tmp_path: Path) -> str:
    """The contracts, but with a bucket of 16 for reading products, filled once a minute."""
    files = FileDescriptorSet.FromString((clone / "protos/gen/contracts.binpb").read_bytes())
    catalog = next(file for file in files.file if file.name == "weft/catalog/v1/catalog.proto")
    method = next(method for method in catalog.service[0].method if method.name == "ListProducts")
    limit = policy_pb2.RateLimit(requests=16, burst=16)
    limit.per.FromSeconds(60)
    method.options.Extensions[policy_pb2.policy].rate_limit.CopyFrom(limit)
    path = tmp_path / "narrow.binpb"
    path.write_bytes(files.SerializeToString())
    return str(path)


def refusals(client: GatewayClient, token: str) -> int:
    """How many of a row of calls are refused for their number."""
    stub = catalog_pb2_grpc.CatalogServiceStub(client.channel())
    metadata = [("authorization", f"Bearer {token}")]
    calls = [
        stub.ListProducts.future(catalog_pb2.ListProductsRequest(page_size=1), metadata=metadata, timeout=20)
        for _ in range(CALLS)
    ]
    codes = [call.code() for call in calls]
    assert {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED} >= set(codes)
    return codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED)


def test_a_published_limit_is_in_force_and_a_rollback_takes_it_back(
    weft: Weft, operator: GatewayClient, narrow: str
) -> None:
    token = operator.sign_in("catalog.read").access_token
    assert 0 == refusals(operator, token)
    changes = weft("plan", "--descriptors", narrow, "--against", "running")["changes"]
    assert ["weft.catalog.v1.CatalogService/ListProducts"] == [change["name"] for change in changes]

    published = weft("publish", "--descriptors", narrow, "--wait")

    assert ("accepted", True) == (published["state"], published["changed"])
    assert published["clients"] >= 2
    assert refusals(operator, token) >= CALLS - 16
    assert [] == weft("plan", "--descriptors", narrow, "--against", "running")["changes"]

    back = weft("rollback", "--wait")

    assert ("accepted", published["manifest"]) == (back["state"], back["undone"])
    assert 0 == refusals(operator, token)


def test_customers_notice_neither_a_publication_nor_its_rollback(
    mesh: Mesh, weft: Weft, operator: GatewayClient, narrow: str
) -> None:
    with SteadyLoad(Shop(mesh, operator)) as load:
        assert "accepted" == weft("publish", "--descriptors", narrow, "--wait")["state"]
        load.advance()
        assert "accepted" == weft("rollback", "--wait")["state"]

    assert ([], []) == (load.failed, load.disturbed)
    assert {0} == set(load.miscounted)


def test_publishing_what_runs_changes_nothing(weft: Weft) -> None:
    assert [] == weft("plan", "--against", "running")["changes"]

    published = weft("publish", "--wait")

    assert (False, "accepted") == (published["changed"], published["state"])


def test_what_clients_refuse_replaces_nothing_and_alerts(
    mesh: Mesh, weft: Weft, operator: GatewayClient, tmp_path: Path
) -> None:
    token = operator.sign_in("catalog.read").access_token
    digest = _publish_refused(mesh, tmp_path)
    began = time.monotonic()

    def refused_by_a_gateway() -> bool:
        waited = _run([sys.executable, "-m", "lb", "proxies", "--wait", digest, "--json"], mesh.publishing().environ)
        verdict = json.loads(waited.stdout)
        assert (1, "refused") == (waited.returncode, verdict["state"])
        # The first refusal ends the wait, and that may be a service's.
        return any(reason.startswith("gateway-") and "Cluster" in reason for reason in verdict["reasons"])

    eventually(refused_by_a_gateway)
    eventually(lambda: _alerting(mesh))
    assert time.monotonic() - began < ALERT_WITHIN_S
    assert 0 == refusals(operator, token)

    assert "accepted" == weft("rollback", "--wait")["state"]
    eventually(lambda: not _alerting(mesh))


def _publish_refused(mesh: Mesh, folder: Path) -> str:
    """Publish what passes every check of ours and no client's: a load balancer that the cluster does not provide."""
    folder = folder / "refused"
    _fetch(mesh, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(
        each
        for each in manifest["resources"]
        if each["name"] == "analytics" and each["type_url"].endswith("config.cluster.v3.Cluster")
    )
    cluster: Any = message_class("envoy.config.cluster.v3.Cluster").FromString(
        (folder / "blobs" / entry["sha256"]).read_bytes()
    )
    cluster.ClearField("load_balancing_policy")
    cluster.lb_policy = cluster.CLUSTER_PROVIDED
    content = cluster.SerializeToString(deterministic=True)
    entry["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "blobs" / entry["sha256"]).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    published = _run([sys.executable, "-m", "lb", "publish", str(folder), "--json"], mesh.publishing().environ)
    assert 0 == published.returncode, published.stderr
    return str(json.loads(published.stdout)["manifest"])


def _fetch(mesh: Mesh, folder: Path) -> str:
    """Write the current bundle into `folder`; returns the digest of its manifest."""
    found = _run([sys.executable, "-m", "lb", "fetch", str(folder), "--json"], mesh.publishing().environ)
    assert 0 == found.returncode, found.stderr
    return str(json.loads(found.stdout)["manifest"])


def _alerting(mesh: Mesh) -> bool:
    with urllib.request.urlopen(f"{mesh.status().urls['metrics']}api/v1/alerts", timeout=5) as answer:
        alerts = json.load(answer)["data"]["alerts"]
    return any((alert["labels"]["alertname"], alert["state"]) == ("ConfigurationRefused", "firing") for alert in alerts)


def _run(command: Sequence[str], environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, env=dict(environ), capture_output=True, text=True, timeout=120, check=False)
