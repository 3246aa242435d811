"""A client in Go finds, balances and follows instances by its bootstrap file alone, and obeys the contract's policy."""

from collections.abc import Iterator

import pytest

from tests.go.build import Programs
from tests.go.peers import Caller, go_caller
from tests.integration.shop import traceparent
from tests.unit.go.conftest import Catalog, SmallMesh
from tests.waiting import eventually

PRODUCT = "products/1"
#: The timeout of GetProduct.
TIMEOUT_S = 2.0

pytestmark = pytest.mark.timeout(900)  # the programs may have to be built first


@pytest.fixture
def caller(go_programs: Programs, small_mesh: SmallMesh) -> Iterator[Caller]:
    with go_caller(go_programs, small_mesh.bootstrap("caller")) as running:
        yield running


def test_calls_go_to_every_instance_and_follow_those_that_come_and_go(caller: Caller, small_mesh: SmallMesh) -> None:
    first, second = small_mesh.catalog("catalog-1"), small_mesh.catalog("catalog-2")
    caller.start(PRODUCT, token="t")
    eventually(lambda: {first.address, second.address} == set(caller.report().peers))

    third = small_mesh.catalog("catalog-3")
    eventually(lambda: third.address in caller.report().peers)

    first.leave()
    before = caller.report().peers[second.address]
    eventually(lambda: _quiet(caller, first.address, beside=second.address))
    first.close()
    eventually(lambda: caller.report().peers[second.address] > before + 50)

    report = caller.stop()
    assert (0, ()) == (report.failed, report.said)
    assert report.calls == sum(report.peers.values())


def test_calls_go_on_while_the_control_plane_is_away(caller: Caller, small_mesh: SmallMesh) -> None:
    first = small_mesh.catalog("catalog-1")
    caller.start(PRODUCT, token="t")
    eventually(lambda: caller.report().peers)

    small_mesh.kill_control_plane()
    before = caller.report().peers[first.address]
    eventually(lambda: caller.report().peers[first.address] > before + 50)
    second = small_mesh.catalog("catalog-2")
    small_mesh.start_control_plane()

    eventually(lambda: second.address in caller.report().peers)
    assert (0, ()) == (caller.stop().failed, caller.report().said)


def test_a_call_carries_token_deadline_and_trace(caller: Caller, small_mesh: SmallMesh) -> None:
    catalog = _reached(caller, small_mesh)
    trace = traceparent()

    answer = caller.call(PRODUCT, token="secret", traceparent=trace)

    assert ("OK", PRODUCT, catalog.address) == (answer["code"], answer["name"], answer["peer"])
    sent = catalog.metadata[-1]
    assert "Bearer secret" == sent["authorization"]
    assert trace.split("-")[1] == sent["traceparent"].split("-")[1]
    assert 0 < catalog.time_left_s[-1] <= TIMEOUT_S


@pytest.mark.parametrize(("failures", "code", "calls"), [(2, "OK", 3), (3, "Unavailable", 3)])
def test_a_call_is_repeated_as_often_as_the_contract_says(
    caller: Caller, small_mesh: SmallMesh, failures: int, code: str, calls: int
) -> None:
    catalog = _reached(caller, small_mesh)
    before, catalog.failures = len(catalog.metadata), failures

    assert (code, calls) == (caller.call(PRODUCT)["code"], len(catalog.metadata) - before)


def _reached(caller: Caller, small_mesh: SmallMesh) -> Catalog:
    """The only instance, once calls arrive there."""
    catalog = small_mesh.catalog("catalog-1")
    eventually(lambda: caller.call(PRODUCT)["code"] == "OK")
    return catalog


def _quiet(caller: Caller, address: str, *, beside: str) -> bool:
    """Whether an instance got nothing while another got twenty calls."""
    before = caller.report().peers
    eventually(lambda: caller.report().peers[beside] >= before[beside] + 20)
    return caller.report().peers.get(address, 0) == before.get(address, 0)
