"""Who is sent where: instances of the caller's own zone first, those of others when they fail."""

import json
from typing import Any

from lb import bootstrap
from lb.endpoint import Endpoint
from lb.xds import wire
from lb.xds.feed import Feed
from lb.xds.types import EDS, Kind
from weft_protos.xds import envoy, message_class

from .sample import KEYS, bundle, endpoint

A1, A2 = endpoint("orders-1", 1, zone="a"), endpoint("orders-2", 2, zone="a")
B1, B2 = endpoint("orders-3", 3, zone="b"), endpoint("orders-4", 4, zone="b")


def served(*endpoints: Endpoint, zone: str, kind: Kind = Kind.GRPC) -> dict[int, list[int]]:
    """What a client in a zone is served: ports by priority."""
    feed = Feed()
    feed.set_bundle(bundle())
    feed.set_endpoints(endpoints)
    feed.set_keys(KEYS.encode())
    return shown(feed, zone=zone, kind=kind)


def shown(feed: Feed, *, zone: str, kind: Kind = Kind.GRPC) -> dict[int, list[int]]:
    snapshot = feed.snapshot(kind, zone)
    assert snapshot is not None
    content = snapshot.of(EDS).resources["orders"].content
    said: Any = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment").FromString(content)
    found: dict[int, list[int]] = {}
    for locality in said.endpoints:
        assert locality.load_balancing_weight.value == len(locality.lb_endpoints)
        for each in locality.lb_endpoints:
            found.setdefault(locality.priority, []).append(each.endpoint.address.socket_address.port_value)
    return {priority: sorted(ports) for priority, ports in found.items()}


def test_who_says_no_zone_gets_all_alike() -> None:
    assert {0: [1, 2, 3, 4]} == served(A1, A2, B1, B2, zone="")


def test_own_instances_come_first_for_both_kinds_of_client() -> None:
    for kind in Kind:
        assert {0: [1, 2], 1: [3, 4]} == served(A1, A2, B1, B2, zone="a", kind=kind)
        assert {0: [3, 4], 1: [1, 2]} == served(A1, A2, B1, B2, zone="b", kind=kind)


def test_a_zone_without_instances_calls_those_of_all_others() -> None:
    assert {0: [1, 2, 3, 4]} == served(A1, A2, B1, B2, zone="c")


def test_instances_that_say_no_zone_are_those_of_another() -> None:
    assert {0: [1], 1: [5]} == served(A1, endpoint("orders-5", 5), zone="a")


def test_a_zone_with_too_few_instances_for_its_callers_shares_them_all() -> None:
    others = [endpoint(f"orders-{port}", port, zone="b") for port in range(10, 14)]

    assert {0: [1, *range(10, 14)]} == served(A1, *others, zone="a")
    assert {0: [1], 1: [10, 11, 12]} == served(A1, *others[:3], zone="a")


def test_where_all_are_of_one_zone_nothing_changes() -> None:
    assert {0: [1, 2]} == served(A1, A2, zone="a")


def test_a_zone_hears_of_every_change() -> None:
    feed = Feed()
    feed.set_bundle(bundle())
    feed.set_endpoints([A1, B1])
    assert {0: [1], 1: [3]} == shown(feed, zone="a")

    feed.set_endpoints([B1])
    assert {0: [3]} == shown(feed, zone="a")

    feed.set_endpoints([A1, A2, B1])
    assert {0: [1, 2], 1: [3]} == shown(feed, zone="a")


def test_a_client_says_its_zone_as_the_control_plane_reads_it() -> None:
    told = json.loads(bootstrap.document(["127.0.0.1:1"], bootstrap.Client("orders-1", "orders", "a")))
    request = envoy("service.discovery.v3.DiscoveryRequest", type_url="x", node=told["node"])

    _, node = wire.decode(request.SerializeToString())

    assert wire.Node("orders-1", "orders", Kind.GRPC, "a") == node


def test_what_differs_has_another_version() -> None:
    feed = Feed()
    feed.set_bundle(bundle())
    feed.set_endpoints([A1, B1])
    versions = {snapshot.of(EDS).version for zone in ("", "a", "b") if (snapshot := feed.snapshot(Kind.GRPC, zone))}

    assert 3 == len(versions)
