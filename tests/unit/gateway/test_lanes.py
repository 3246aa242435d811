"""Lanes at the gateway: who goes by one, who answers, and what happens when nobody in it does."""

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator

import grpc
import pytest

from tests.waiting import eventually
from weft_protos.lanes import ASKED, HEADER, Lane

from .laned import Instance, LanedEdge, edge

GET, LIST, PRODUCT = (
    "weft.orders.v1.OrderService/GetOrder",
    "weft.orders.v1.OrderService/ListOrders",
    "weft.catalog.v1.CatalogService/GetProduct",
)
PLACE, WATCH = "weft.orders.v1.OrderService/PlaceOrder", "weft.orders.v1.OrderService/WatchOrder"
ASK = {ASKED: "canary"}
CLOSED = Lane("canary", ("orders",))
CANARY = Lane("canary", ("orders",), header="canary")


@pytest.fixture(scope="module")
def gateway(descriptors: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LanedEdge]:
    """One gateway for all tests; each has instances of its own."""
    with edge(descriptors, tmp_path_factory.mktemp("lanes")) as found:
        yield found


@pytest.fixture
def stable() -> Iterator[Instance]:
    found = Instance("orders-1")
    yield found
    found.stop()


@pytest.fixture
def canary() -> Iterator[Instance]:
    found = Instance("orders-canary-1", lane="canary")
    yield found
    found.stop()


@pytest.fixture
def catalog() -> Iterator[Instance]:
    found = Instance("catalog-1", service="catalog")
    yield found
    found.stop()


def settled(gateway: LanedEdge, expected: str, **call: object) -> None:
    """Wait until a call is answered by that instance."""
    token = gateway.token()
    eventually(lambda: ("OK", expected) == gateway.call(GET, token=token, **call))  # type: ignore[arg-type]


def test_only_who_asks_goes_by_a_lane_that_is_open_to_askers(
    gateway: LanedEdge, stable: Instance, canary: Instance, catalog: Instance
) -> None:
    gateway.serve([stable, canary, catalog], CANARY)
    settled(gateway, canary.name, headers=ASK)
    token = gateway.token()
    canary.seen.clear()
    stable.seen.clear()

    for _ in range(20):
        assert ("OK", canary.name) == gateway.call(LIST, token=token, headers=ASK)
        assert ("OK", stable.name) == gateway.call(LIST, token=token)
        assert ("OK", stable.name) == gateway.call(LIST, token=token, headers={ASKED: "other"})
        # What only the gateway may say is not heard.
        assert ("OK", stable.name) == gateway.call(LIST, token=token, headers={HEADER: "canary"})

    assert {"canary": 20} == canary.seen
    assert {"": 60} == stable.seen


def test_a_service_without_the_lane_gets_the_call_and_its_lane(
    gateway: LanedEdge, stable: Instance, canary: Instance, catalog: Instance
) -> None:
    gateway.serve([stable, canary, catalog], CANARY)
    settled(gateway, canary.name, headers=ASK)

    assert ("OK", catalog.name) == gateway.call(PRODUCT, token=gateway.token(), headers=ASK)

    assert 1 == catalog.seen["canary"]


def test_json_goes_by_the_lane_too(gateway: LanedEdge, stable: Instance, canary: Instance) -> None:
    gateway.serve([stable, canary], CANARY)
    settled(gateway, canary.name, headers=ASK)
    headers = {"authorization": f"Bearer {gateway.token()}", **ASK}
    request = urllib.request.Request(f"http://{gateway.address}/v1/orders", headers=headers)

    with urllib.request.urlopen(request, timeout=20) as answer:
        assert ({}, canary.name) == (json.load(answer), answer.headers["instance"])


def test_a_claim_of_the_token_opens_a_lane(gateway: LanedEdge, stable: Instance, canary: Instance) -> None:
    gateway.serve([stable, canary], Lane("canary", ("orders",), claim="scope", value="orders.read"))
    settled(gateway, canary.name)

    assert ("OK", stable.name) == gateway.call(PLACE, token=gateway.token(scope="orders.write orders.readers"))

    gateway.serve([stable, canary], Lane("canary", ("orders",), claim="sub", value="bob"))
    settled(gateway, stable.name)
    assert ("OK", canary.name) == gateway.call(GET, token=gateway.token("bob"))


def test_a_subject_sees_one_version_and_a_share_of_the_subjects_the_lane(
    gateway: LanedEdge, stable: Instance, canary: Instance
) -> None:
    tokens = [gateway.token(f"user-{number}") for number in range(200)]

    def served_by(token: str) -> str:
        # A call that a busy machine lets come too late says nothing of where it goes.
        calls = (gateway.call(GET, token=token) for _ in range(5))
        return next(instance for code, instance in calls if code == "OK")

    def inside(percent: float) -> set[int]:
        """Subjects that are in. Whoever is, is with every call."""
        gateway.serve([stable, canary], Lane("canary", ("orders",), percent=percent, header=f"share-{percent:g}"))
        settled(gateway, canary.name, headers={ASKED: f"share-{percent:g}"})
        rounds = [{number for number, token in enumerate(tokens) if served_by(token) == canary.name} for _ in range(2)]
        assert rounds[0] == rounds[1]
        return rounds[0]

    none, few, half, all_ = map(inside, (0, 20, 50, 100))

    assert none == set()
    assert none < few < half < all_ == set(range(200))
    # The shares of 200 fixed names, wide enough for any hash worth the name.
    assert 15 <= len(few) <= 65
    assert 70 <= len(half) <= 130


def test_where_a_lane_has_no_instances_the_stable_ones_answer(
    gateway: LanedEdge, stable: Instance, canary: Instance
) -> None:
    gateway.serve([stable], CANARY)
    token = gateway.token()
    stable.seen.clear()
    eventually(lambda: gateway.call(GET, token=token, headers=ASK) == ("OK", stable.name) and stable.seen["canary"] > 0)

    gateway.serve([stable, canary], CANARY)
    settled(gateway, canary.name, headers=ASK)
    gateway.serve([stable], CANARY)
    settled(gateway, stable.name, headers=ASK)


def test_no_call_fails_when_the_only_instance_of_a_lane_is_killed(
    gateway: LanedEdge, stable: Instance, canary: Instance
) -> None:
    gateway.serve([stable, canary], CANARY)
    settled(gateway, canary.name, headers=ASK)
    token = gateway.token()
    canary.stop()

    ended = Counter(gateway.call(GET, token=token, headers=ASK) for _ in range(60))

    assert {("OK", stable.name): 60} == ended


def test_lanes_come_and_go_under_load_and_streams_go_on(gateway: LanedEdge, stable: Instance, canary: Instance) -> None:
    gateway.serve([stable, canary], CANARY)
    settled(gateway, canary.name, headers=ASK)
    token = gateway.token()
    metadata = [("authorization", f"Bearer {token}"), *ASK.items()]
    watch = gateway.channel.unary_stream(f"/{WATCH}")(b"", metadata=metadata)
    assert canary.name == dict(watch.initial_metadata())["instance"]

    stages = ([CANARY], [CLOSED], [], [CLOSED])
    tokens = [gateway.token(f"caller-{number}") for number in range(10)]
    ended: Counter[str] = Counter()
    for turn in range(12):
        gateway.serve([stable, canary], *stages[turn % len(stages)])
        # A lane opens when its instances are ready, long after gateways know where they are.
        known = bool(stages[turn % len(stages)])
        eventually(lambda known=known: known == gateway.knows("orders@canary"))  # type: ignore[misc]
        ended.update(gateway.call(GET, token=token, headers=ASK)[0] for token in tokens for _ in range(3))

    assert {"OK": 360} == ended
    assert [b"", b""] == [next(watch), next(watch)]
    watch.cancel()


def test_what_fails_in_a_lane_is_counted_as_the_lanes_and_costs_the_others_no_retry(
    gateway: LanedEdge, stable: Instance, canary: Instance
) -> None:
    gateway.serve([stable, canary], CANARY)
    settled(gateway, canary.name, headers=ASK)
    token = gateway.token()
    canary.fails = grpc.StatusCode.INTERNAL

    failed = Counter(gateway.call(PLACE, token=token, headers=ASK) for _ in range(4))

    assert {("INTERNAL", canary.name): 4} == failed
    counted = [line for line in gateway.figures("envoy_weft_calls_total") if "PlaceOrder" in line]
    assert any('lane="canary"' in line and 'grpc_status="13"' in line and line.endswith(" 4") for line in counted)
    assert ("OK", stable.name) == gateway.call(PLACE, token=token)
