"""Programs in Go join a running mesh: a client by its bootstrap file alone, a service by its contract and the registry.

The Go service's contract is published for the time of a test, as any new service's would be.
"""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.mesh import Mesh
from tests.go.build import Programs
from tests.go.peers import Caller, Shipping, go_caller, python_caller
from tests.integration.shop import Shop, traceparent
from tests.waiting import DEADLINE_S, eventually, free_port

GET_PRODUCT: Final = "weft.catalog.v1.CatalogService/GetProduct"
GET_RATE: Final = "weft.shipping.v1.ShippingService/GetRate"
RATE: Final = "shippingRates/GB"
#: Answers that show that calls go on.
ANSWERS: Final = 50

pytestmark = pytest.mark.timeout(900)  # the programs may have to be built first

Instances = Callable[[str], Shipping]


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


@pytest.fixture
def token(operator: GatewayClient) -> str:
    return operator.sign_in("catalog.read").access_token


@pytest.fixture
def bootstrap(mesh: Mesh, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a bootstrap file, with the mesh's own command."""

    def write(service: str) -> Path:
        path = tmp_path / f"{service}.json"
        _run(mesh, "lb", "bootstrap", "--service", service, "--instance", f"{service}-1", "--out", str(path))
        return path

    return write


@pytest.fixture
def caller(mesh: Mesh, go_programs: Programs, bootstrap: Callable[[str], Path]) -> Iterator[Caller]:
    """The client in Go; it calls catalog."""
    collector = mesh.publishing().environ["WEFT_OTLP_ENDPOINT"]
    with go_caller(go_programs, bootstrap("go-caller"), collector=collector) as running:
        yield running


@pytest.fixture
def load(mesh: Mesh, shop: Shop, caller: Caller, token: str) -> Caller:
    """The client in Go, calling on and on; every instance of catalog has answered."""
    mesh.wait_ready()
    caller.start(f"products/{shop.product()}", token=token)
    eventually(lambda: _addresses(mesh, "catalog") == set(caller.report().peers))
    return caller


def test_a_client_in_go_loses_no_call_while_every_instance_is_restarted_in_turn(mesh: Mesh, load: Caller) -> None:
    for address in sorted(_addresses(mesh, "catalog")):
        name = _named(mesh, address)
        mesh.restart(name)
        _answered(load, mesh.status().process(name).address)

    report = load.stop()
    assert (0, ()) == (report.failed, report.said)
    assert report.calls == sum(report.peers.values())


def test_a_client_in_go_follows_a_change_of_size(mesh: Mesh, load: Caller) -> None:
    before = _addresses(mesh, "catalog")
    try:
        (started,) = mesh.scale("catalog", len(before) + 1).started
        added = mesh.status().process(started).address
        _answered(load, added)
    finally:
        mesh.scale("catalog", len(before))

    for address in before:
        _answered(load, address)
    eventually(lambda: _quiet(load, added, beside=min(before)))
    report = load.stop()
    assert (0, ()) == (report.failed, report.said)


def test_a_client_in_go_loses_no_call_when_an_instance_is_killed(mesh: Mesh, load: Caller) -> None:
    victim = mesh.status().process(_named(mesh, min(_addresses(mesh, "catalog"))))

    mesh.kill(victim.name)

    eventually(lambda: mesh.status().process(victim.name).restarts > victim.restarts)
    mesh.wait_ready()
    _answered(load, mesh.status().process(victim.name).address)
    report = load.stop()
    assert (0, ()) == (report.failed, report.said)


def test_a_client_in_go_loses_no_call_while_a_control_plane_and_etcd_are_killed(mesh: Mesh, load: Caller) -> None:
    members = tuple(process.name for process in mesh.status().processes if process.kind == "etcd")
    for names in (("control-plane-1",), members):
        restarts = {name: mesh.status().process(name).restarts for name in names}
        for name in names:
            mesh.kill(name)
        _answered(load, *_addresses(mesh, "catalog"))
        for name, before in restarts.items():
            eventually(lambda name=name, before=before: mesh.status().process(name).restarts > before)
        mesh.wait_ready()

    _answered(load, *_addresses(mesh, "catalog"))
    report = load.stop()
    assert (0, ()) == (report.failed, report.said)


def test_a_call_of_a_client_in_go_is_in_the_trace_above_the_instance_that_answered(
    shop: Shop, caller: Caller, token: str
) -> None:
    trace = traceparent()

    answer = caller.call(f"products/{shop.product()}", token=token, traceparent=trace)

    assert "OK" == answer["code"], answer
    eventually(lambda: (("go-caller", GET_PRODUCT), ("catalog", GET_PRODUCT)) in _hops(shop, trace))


def test_a_client_in_go_is_refused_without_a_token(shop: Shop, caller: Caller) -> None:
    assert "Unauthenticated" == caller.call(f"products/{shop.product()}")["code"]


@pytest.fixture
def published(mesh: Mesh, go_programs: Programs) -> Iterator[None]:
    """The mesh goes by the contract of the service in Go as well; afterwards by what it had."""
    done = _contracts(mesh, "publish", "--descriptors", str(go_programs.contracts), "--wait")
    assert ("accepted", True) == (done["state"], done["changed"])
    yield
    assert "accepted" == _contracts(mesh, "rollback", "--wait")["state"]


@pytest.fixture
def instances(mesh: Mesh, published: None, go_programs: Programs) -> Iterator[Instances]:
    """Starts instances of the service in Go, with the environment of every other instance."""
    with ExitStack() as stack:

        def start(name: str) -> Shipping:
            environ = mesh.publishing().environ
            return stack.enter_context(Shipping(go_programs, name, port=free_port(), environ=environ))

        yield start


@pytest.fixture
def shopper(instances: Instances, go_programs: Programs, bootstrap: Callable[[str], Path]) -> Iterator[Caller]:
    """A client in Python, on a channel as every service of the mesh opens it; it calls the service in Go."""
    with python_caller(go_programs, bootstrap("shopper")) as running:
        yield running


def test_an_instance_in_go_is_found_balanced_and_drained_without_a_failed_call(
    mesh: Mesh, instances: Instances, shopper: Caller, token: str
) -> None:
    first, second = instances("shipping-1"), instances("shipping-2")
    eventually(lambda: {first.address, second.address} == _registered(mesh))
    shopper.start(RATE, token=token)
    eventually(lambda: {"shipping-1", "shipping-2"} == set(shopper.report().peers))

    assert 0 == first.terminate()
    assert {second.address} == _registered(mesh)
    _answered(shopper, "shipping-2")
    third = instances("shipping-3")
    _answered(shopper, "shipping-3")

    report = shopper.stop()
    assert (0, ()) == (report.failed, report.said)
    assert (0, 0) == (second.terminate(), third.terminate())


def test_the_gateway_treats_a_service_in_go_by_its_contract(
    mesh: Mesh, shop: Shop, instances: Instances, operator: GatewayClient, token: str
) -> None:
    instances("shipping-1")
    trace = traceparent()
    eventually(lambda: 200 == _rate(mesh, token, trace)[0])

    assert {"name": RATE, "price": {"currencyCode": "GBP", "units": "3"}, "servedBy": "shipping-1"} == {
        key: _rate(mesh, token, trace)[1][key] for key in ("name", "price", "servedBy")
    }
    assert 401 == _rate(mesh, "", trace)[0]
    assert 403 == _rate(mesh, operator.sign_in("orders.read").access_token, trace)[0]
    eventually(lambda: (("gateway", "router shipping egress"), ("shipping", GET_RATE)) in _hops(shop, trace))


def _rate(mesh: Mesh, token: str, trace: str) -> tuple[int, Any]:
    """Ask the gateway for a rate, in JSON: status and answer."""
    headers = {"traceparent": trace} | ({"authorization": f"Bearer {token}"} if token else {})
    try:
        request = urllib.request.Request(f"http://{mesh.gateway}/v1/{RATE}", headers=headers)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, None


def _addresses(mesh: Mesh, service: str) -> set[str]:
    return {process.address for process in mesh.status().processes if process.service == service}


def _named(mesh: Mesh, address: str) -> str:
    return next(process.name for process in mesh.status().processes if process.address == address)


def _registered(mesh: Mesh) -> set[str]:
    found = json.loads(_run(mesh, "lb", "endpoints", "--service", "shipping"))
    return {f"{row['address']}:{row['port']}" for row in found}


def _answered(caller: Caller, *peers: str) -> None:
    """Wait until each of them has answered some more."""
    before = caller.report().peers
    goals = {peer: before.get(peer, 0) + ANSWERS for peer in peers}
    eventually(lambda: all(caller.report().peers.get(peer, 0) >= goal for peer, goal in goals.items()))


def _quiet(caller: Caller, peer: str, *, beside: str) -> bool:
    """Whether one answers nothing while the other goes on."""
    before = caller.report().peers.get(peer, 0)
    _answered(caller, beside)
    return caller.report().peers.get(peer, 0) == before


def _hops(shop: Shop, trace: str) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    """Who is above whom in a trace, as the trace view has it now."""
    try:
        spans = shop.fetch("traces", f"/api/traces/{trace.split('-')[1]}")["spans"]
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return set()
    found = set()
    while spans:
        above = spans.pop()
        spans += above["children"]
        found |= {((above["service"], above["name"]), (each["service"], each["name"])) for each in above["children"]}
    return found


def _contracts(mesh: Mesh, *arguments: str) -> dict[str, Any]:
    environ = {**child_environ(), "WEFT_DATA": str(mesh.secrets.parent)}
    command = [sys.executable, "-m", "deploy.cli", "contracts", *arguments, "--json"]
    done = subprocess.run(
        command, env=environ, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S * 2, check=False
    )
    assert 0 == done.returncode, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _run(mesh: Mesh, module: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=dict(mesh.publishing().environ),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout
