"""An instance that fails is left alone for a while, and called again afterwards, whatever it still had to do."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.waiting import eventually

from .laned import Instance, LanedEdge, edge

GET, WATCH = "weft.orders.v1.OrderService/GetOrder", "weft.orders.v1.OrderService/WatchOrder"
EJECTED = "envoy_cluster_outlier_detection_ejections_enforced_total"


@pytest.fixture(scope="module")
def gateway(descriptors: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanedEdge]:
    with edge(descriptors, tmp_path_factory.mktemp("ejection")) as found:
        yield found


@pytest.fixture
def instances() -> Iterator[tuple[Instance, Instance]]:
    found = Instance("orders-1"), Instance("orders-2")
    yield found
    for instance in found:
        instance.stop()


def ejections(gateway: LanedEdge) -> int:
    lines = [line for line in gateway.figures(EJECTED) if 'envoy_cluster_name="orders"' in line]
    return sum(int(line.rpartition(" ")[2]) for line in lines)


def watching(gateway: LanedEdge, instance: Instance, token: str) -> Any:
    """A stream that this instance serves."""
    metadata = [("authorization", f"Bearer {token}")]
    with ExitStack() as others:
        while True:
            watch = gateway.channel.unary_stream(f"/{WATCH}")(b"", metadata=metadata, timeout=120)
            if instance.name == dict(watch.initial_metadata())["instance"]:
                return watch
            others.callback(watch.cancel)


def test_an_instance_is_called_again_while_a_stream_from_before_its_ejection_goes_on(
    gateway: LanedEdge, instances: tuple[Instance, Instance]
) -> None:
    sick, sound = instances
    gateway.serve(instances)
    token = gateway.token()
    for name in (sick.name, sound.name):
        eventually(lambda name=name: ("OK", name) == gateway.call(GET, token=token))
    watches = [watching(gateway, sick, token)]

    for round_ in range(3):
        sick.is_gone, before = True, ejections(gateway)
        eventually(lambda before=before: (gateway.call(GET, token=token), ejections(gateway) > before)[1])
        sick.is_gone = False
        ended: Counter[tuple[str, str]] = Counter()
        # The first answers after its ejection come on a connection that there was not before.
        eventually(
            lambda ended=ended: (ended.update([gateway.call(GET, token=token)]), ended["OK", sick.name] >= 20)[1]
        )
        assert {"OK"} == {code for code, _ in ended}, round_
        watches.append(watching(gateway, sick, token))

    assert [b""] * 4 == [next(watch) for watch in watches]
    for watch in watches:
        watch.cancel()
