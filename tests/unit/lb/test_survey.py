"""A look at the registry has what is there now, over a connection that may have died since the last one."""

from collections.abc import Iterator

import pytest

from lb.endpoint import Endpoint, service_name
from lb.errors import EtcdError
from lb.registry.etcd import Client, Put
from lb.registry.keys import encode, endpoint_key, status_key
from lb.registry.survey import Survey
from lb.status import ControlPlaneStatus
from lb.status import encode as encode_status
from tests.unit.lb.fake_etcd import FakeEtcd
from tests.unit.lb.registry_suite import ask, settings_of

ORDERS = Endpoint(service_name("orders"), "orders-1", "127.0.0.1", 21001, "1.2", zone="a")
SERVING = ControlPlaneStatus("control-plane-1", "ab", "", (), ())


@pytest.fixture
def etcd() -> Iterator[FakeEtcd]:
    made = FakeEtcd()
    yield made
    made.close()


@pytest.fixture
def survey(etcd: FakeEtcd) -> Iterator[Survey]:
    made = Survey(settings_of(etcd.address))
    yield made
    made.close()


def fill(etcd: FakeEtcd) -> None:
    async def work(client: Client) -> None:
        lease = await client.grant(60)
        await client.put(Put(endpoint_key("orders", "orders-1"), encode(ORDERS), lease))
        await client.put(Put(endpoint_key("orders", "orders-2"), b"no endpoint", lease))
        await client.put(Put(status_key("control-plane-1"), encode_status(SERVING), lease))

    ask(etcd.address, work)


def test_it_has_what_is_registered_and_what_control_planes_say(etcd: FakeEtcd, survey: Survey) -> None:
    assert () == survey.read(10.0).endpoints
    fill(etcd)

    seen = survey.read(10.0)

    assert ((ORDERS,), (SERVING,)) == (seen.endpoints, seen.statuses)


def test_it_fails_while_etcd_is_away_and_goes_on_when_it_is_back(etcd: FakeEtcd, survey: Survey) -> None:
    fill(etcd)
    survey.read(10.0)
    etcd.kill()
    with pytest.raises(EtcdError):
        survey.read(1.0)
    etcd.restart()

    assert (ORDERS,) == survey.read(10.0).endpoints


def test_a_connection_that_died_between_two_looks_costs_nothing_but_another(etcd: FakeEtcd, survey: Survey) -> None:
    fill(etcd)
    survey.read(10.0)
    etcd.kill()
    etcd.restart()

    assert (ORDERS,) == survey.read(10.0).endpoints
