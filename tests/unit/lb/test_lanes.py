"""What control planes make of lanes: clusters, routes and endpoints for both kinds of client; nothing without lanes."""

from dataclasses import replace
from typing import Any

import pytest

from lb.endpoint import Endpoint
from lb.lastgood import endpoints_from_bytes, endpoints_to_bytes
from lb.registry.keys import decode, encode, endpoint_key, says_goodbye, takes_over
from lb.registry.retention import Retention
from lb.xds.feed import Feed
from lb.xds.snapshot import Snapshot
from lb.xds.types import CDS, EDS, RDS, Kind
from weft_protos import lanes
from weft_protos.lanes import HEADER, Lane
from weft_protos.xds import TYPE_URL_PREFIX, message_class

from . import sample

CANARY = Lane("canary", ("orders",), header="canary")
ROWS = [*sample.rows(), *sample.rows("catalog"), *sample.gateway_rows()]
STABLE = sample.endpoint("orders-1", 1)
LANED = replace(sample.endpoint("orders-canary-1", 2), lane="canary")


def feed(*laned: Lane, endpoints: tuple[Endpoint, ...] = (STABLE, LANED)) -> Feed:
    found = Feed()
    found.set_bundle(sample.bundle(*ROWS))
    found.set_endpoints(endpoints)
    assert found.set_lanes(lanes.to_bytes(laned))
    return found


def served(found: Feed, kind: Kind = Kind.GRPC) -> Snapshot:
    snapshot = found.snapshot(kind)
    assert snapshot is not None
    return snapshot


def message(snapshot: Snapshot, type_url: str, name: str) -> Any:
    content = snapshot.of(type_url).resources[name].content
    return message_class(type_url.removeprefix(TYPE_URL_PREFIX)).FromString(content)


def ports(snapshot: Snapshot, cluster: str) -> dict[int, list[int]]:
    """Ports by priority."""
    found: dict[int, list[int]] = {}
    for locality in message(snapshot, EDS, cluster).endpoints:
        assert locality.load_balancing_weight.value == len(locality.lb_endpoints)
        for each in locality.lb_endpoints:
            found.setdefault(locality.priority, []).append(each.endpoint.address.socket_address.port_value)
    return found


def chosen(snapshot: Snapshot, routes: str) -> list[tuple[str, str]]:
    """Lane and cluster of each route, in the order in which they are tried."""
    return [
        (route.match.headers[0].string_match.exact if route.match.headers else "", route.route.cluster)
        for route in message(snapshot, RDS, routes).virtual_hosts[0].routes
    ]


@pytest.mark.parametrize("kind", list(Kind))
def test_without_lanes_nothing_is_changed(kind: Kind) -> None:
    never, ended = feed(endpoints=(STABLE,)), feed(CANARY, endpoints=(STABLE,))
    ended.set_lanes(lanes.to_bytes([]))

    assert served(never, kind).types == served(ended, kind).types


def test_an_instance_in_a_lane_is_none_of_the_stable_ones() -> None:
    assert {0: [1]} == ports(served(feed()), "orders")
    assert "orders@canary" not in served(feed()).of(EDS).resources


@pytest.mark.parametrize(("kind", "routes"), [(Kind.GRPC, "orders"), (Kind.ENVOY, "gateway")])
def test_calls_of_a_lane_have_a_route_before_the_others(kind: Kind, routes: str) -> None:
    snapshot = served(feed(CANARY, Lane("blue", ("orders",))), kind)

    assert [("blue", "orders@blue"), ("canary", "orders@canary"), ("", "orders")] == chosen(snapshot, routes)
    names = {
        header.name
        for route in message(snapshot, RDS, routes).virtual_hosts[0].routes
        for header in route.match.headers
    }
    assert {HEADER} == names
    cluster = message(snapshot, CDS, "orders@canary")
    assert "orders@canary" == cluster.name == cluster.eds_cluster_config.service_name


def test_a_service_that_has_no_such_lane_has_no_route_of_it() -> None:
    assert [("", "catalog")] == chosen(served(feed(CANARY)), "catalog")
    assert "catalog@canary" not in served(feed(CANARY)).of(CDS).resources


def test_stable_instances_stand_behind_those_of_a_lane_and_in_their_place() -> None:
    assert {0: [2], 1: [1]} == ports(served(feed(CANARY)), "orders@canary")
    assert {0: [1]} == ports(served(feed(CANARY, endpoints=(STABLE,))), "orders@canary")
    assert {0: [2]} == ports(served(feed(CANARY, endpoints=(LANED,))), "orders@canary")


def test_a_lane_hears_of_changes_of_the_stable_instances() -> None:
    found = feed(CANARY)
    found.set_endpoints([STABLE, LANED, sample.endpoint("orders-2", 3)])

    assert {0: [2], 1: [1, 3]} == ports(served(found), "orders@canary")
    assert {0: [1, 3]} == ports(served(found), "orders")


def test_only_the_gateways_are_told_who_may_enter_and_only_while_any_can() -> None:
    def told(*laned: Lane) -> tuple[bool, bool]:
        hosts = [
            message(served(feed(*laned), kind), RDS, routes).virtual_hosts[0]
            for kind, routes in ((Kind.ENVOY, "gateway"), (Kind.GRPC, "orders"))
        ]
        envoys, grpc = (lanes.FILTER in host.typed_per_filter_config for host in hosts)
        return envoys, grpc

    assert (True, False) == told(CANARY)
    assert (False, False) == told(Lane("canary", ("orders",)))


def test_a_service_that_no_contract_has_is_left_out() -> None:
    found = feed(Lane("canary", ("orders", "nothing")), Lane("blue", ("nothing",)))

    assert {"orders", "catalog", "orders@canary"} == set(served(found).of(CDS).resources)


def test_a_damaged_document_changes_nothing() -> None:
    found = feed(CANARY)
    before = served(found)

    assert not found.set_lanes(b"{")
    assert before is served(found)


def test_lanes_outlive_another_bundle() -> None:
    found = feed(CANARY)
    found.set_bundle(sample.bundle(*sample.rows(), *sample.gateway_rows()))

    assert "orders@canary" in served(found).of(CDS).resources


def test_a_stable_instance_has_left_when_the_lanes_of_its_service_do_not_have_it_either() -> None:
    found = feed(CANARY)

    assert ("orders", "orders@canary") == found.clusters_of(STABLE)
    assert ("orders@canary",) == found.clusters_of(LANED)
    assert ("catalog",) == found.clusters_of(sample.endpoint("catalog-1", 9, "catalog"))


def test_an_instance_says_its_lane_in_the_registry() -> None:
    key = endpoint_key(LANED.service, LANED.instance)

    assert LANED == decode(key, encode(LANED), lease=1)
    assert "canary" == decode(key, encode(LANED), lease=1).lane
    with pytest.raises(ValueError, match="is not a lane"):
        replace(LANED, lane="No")


def test_only_a_stable_instance_that_stays_takes_over() -> None:
    leaving = replace(STABLE, leaving=True)

    assert (True, False) == (takes_over(encode(STABLE)), says_goodbye(encode(STABLE)))
    assert (False, True) == (takes_over(encode(leaving)), says_goodbye(encode(leaving)))
    assert (False, False) == (takes_over(encode(LANED)), says_goodbye(encode(LANED)))


def test_what_was_good_last_keeps_lanes_apart_and_is_read_as_it_was_before() -> None:
    assert (STABLE, LANED) == endpoints_from_bytes(endpoints_to_bytes([STABLE, LANED]))
    assert "canary" == endpoints_from_bytes(endpoints_to_bytes([LANED]))[0].lane


def test_the_last_of_a_lane_goes_when_it_says_goodbye_and_the_last_stable_one_stays() -> None:
    keys = {each: endpoint_key(each.service, each.instance) for each in (STABLE, LANED)}
    registered = {key: each for each, key in keys.items()}
    retention = Retention()
    assert registered == retention.settle(registered, 0.0)

    leaving = {key: replace(each, leaving=True) for key, each in registered.items()}

    assert {keys[STABLE]: STABLE} == retention.settle(leaving, 1.0)
