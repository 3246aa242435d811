"""From a compiled bundle, endpoints and keys to what is served."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from lb.errors import BundleRefusedError, SnapshotRefusedError
from lb.xds.bundle import Reference, parse, pieces_of
from lb.xds.feed import Feed
from lb.xds.resources import JWT_FILTER, assignments, by_cluster, checked_keys
from lb.xds.snapshot import Resource, Snapshot, build
from lb.xds.stream import Response
from lb.xds.types import CDS, ECDS, EDS, LDS, RDS, Kind
from lb.xds.wire import encode
from tests.unit.lb import sample
from weft_protos.manifests import GATEWAYS_MAX
from weft_protos.xds import envoy, message_class

EVERYTHING = [*sample.rows(), *sample.gateway_rows()]


def problems(manifest: bytes, pieces: dict[str, bytes]) -> str:
    with pytest.raises(BundleRefusedError) as caught:
        parse(manifest, pieces)
    return "\n".join(caught.value.problems)


def loaded(*rows: sample.Row) -> Feed:
    feed = Feed()
    feed.set_endpoints([sample.endpoint("orders-1", 4711)])
    feed.set_bundle(sample.bundle(*rows))
    return feed


def served(feed: Feed, kind: Kind) -> Snapshot:
    snapshot = feed.snapshot(kind)
    assert snapshot is not None
    return snapshot


def token_filter_of(snapshot: Snapshot) -> Any:
    content = snapshot.of(ECDS).resources[JWT_FILTER].content
    extension = message_class("envoy.config.core.v3.TypedExtensionConfig").FromString(content)
    name = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
    return message_class(name).FromString(extension.typed_config.value)  # type: ignore[attr-defined]


def test_a_complete_bundle_is_taken() -> None:
    bundle = sample.bundle(*EVERYTHING)

    assert {"orders": "EDS"} == bundle.clusters
    assert {(CDS, "orders"), (EDS, "orders"), (RDS, "gateway"), (ECDS, JWT_FILTER)} == {
        (each.type_url, each.name) for each in bundle.references[Kind.ENVOY]
    }


def test_every_problem_of_a_bundle_is_told_at_once() -> None:
    manifest, pieces = sample.compiled(EVERYTHING)
    rows = json.loads(manifest)["resources"]
    rows[0]["name"] = "other"
    rows[1]["audience"] = "everyone"
    rows[2]["type_url"] = "type.googleapis.com/google.protobuf.Any"
    pieces[rows[3]["sha256"]] = b"changed"
    del pieces[rows[4]["sha256"]]
    found = problems(json.dumps({"format": 1, "resources": rows}).encode(), pieces)

    for expected in ("another name inside", "audience", "not a type", "not what its name says", "is missing"):
        assert expected in found


def test_what_a_bundle_refers_to_must_be_in_it_for_the_same_audience() -> None:
    cluster = ("all", sample.cluster("orders"))
    listener_only = problems(*sample.compiled([("grpc", sample.api_listener("orders"))]))
    wrong_audience = problems(
        *sample.compiled(
            [cluster, ("grpc", sample.api_listener("orders")), ("envoy", sample.routes("orders", "orders"))]
        )
    )

    assert "listener 'orders' needs RouteConfiguration 'orders' (grpc)" == listener_only
    assert listener_only == wrong_audience


def test_routes_lead_to_clusters_that_are_there() -> None:
    weighted = {"clusters": [{"name": "orders", "weight": 9}, {"name": "canary", "weight": 1}]}
    nowhere = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}
    mirrored = {"cluster": "xds", "request_mirror_policies": [{"cluster": "shadow"}]}
    routes = envoy(
        "config.route.v3.RouteConfiguration",
        name="gateway",
        virtual_hosts=[
            {
                "name": "all",
                "domains": ["*"],
                "routes": [
                    {"match": {"prefix": ""}, "route": each}
                    for each in ({"weighted_clusters": weighted}, nowhere, mirrored)
                ],
            }
        ],
    )
    needs = "routes 'gateway' needs Cluster"

    # Envoy has `xds` from its start; gRPC has nothing from its start.
    for audience, missing in (("envoy", ("canary", "shadow")), ("grpc", ("canary", "shadow", "xds"))):
        told = problems(*sample.compiled([("all", sample.cluster("orders")), (audience, routes)]))
        assert [f"{needs} {name!r} ({audience})" for name in missing] == told.splitlines()


def test_a_resource_is_there_once_for_each_audience() -> None:
    assert "twice for grpc" in problems(
        *sample.compiled([("all", sample.cluster("orders")), ("grpc", sample.cluster("orders"))])
    )


def test_endpoints_do_not_come_from_a_bundle() -> None:
    content = envoy("config.endpoint.v3.ClusterLoadAssignment", cluster_name="orders").SerializeToString()
    digest = hashlib.sha256(content).hexdigest()
    row = {"audience": "all", "type_url": EDS, "name": "orders", "sha256": digest}
    manifest = json.dumps({"format": 1, "resources": [row]}).encode()

    assert "come from the registry" in problems(manifest, {digest: content})


@pytest.mark.parametrize(
    "manifest",
    [
        *(b"", b"\xff", b"[]", b"[" * 100_000, b'{"format": 2}', b'{"format": 1}', b'{"format": 1, "resources": []}'),
        *(b'{"format": 1, "resources": [1]}', b'{"format": 1, "resources": [{"audience": "all"}]}'),
    ],
)
def test_a_manifest_that_is_none_is_refused(manifest: bytes) -> None:
    with pytest.raises(BundleRefusedError):
        pieces_of(manifest)


def test_a_snapshot_that_names_what_it_does_not_hold_is_refused() -> None:
    reference = Reference(EDS, "orders", "cluster 'orders'")
    with pytest.raises(SnapshotRefusedError, match="needs ClusterLoadAssignment 'orders'"):
        build([], [reference], withheld=frozenset())

    assert {} == build([], [reference], withheld=frozenset({(EDS, "orders")})).types


def test_versions_follow_the_content_and_nothing_else() -> None:
    def version(*endpoints: Any) -> str:
        return build(assignments(by_cluster(endpoints), ["orders"]), [], withheld=frozenset()).of(EDS).version

    one, two = sample.endpoint("orders-1", 1), sample.endpoint("orders-2", 2)

    assert version(one, two) == version(two, one)
    assert version(one) != version(one, two)


def test_limits_are_never_divided_by_more_gateways_than_a_bucket_has_tokens() -> None:
    message: Any = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment")

    def told(names: Sequence[str]) -> list[int]:
        gateways = [sample.endpoint(name, 1 + int(name[-2:]), "edge") for name in names]
        (edge,) = assignments(by_cluster(gateways), ["edge"])
        (locality,) = message.FromString(edge.content).endpoints
        ports = (each.endpoint.address.socket_address.port_value for each in locality.lb_endpoints)
        return sorted(int(port) for port in ports)

    names = [f"gateway-{number:02}" for number in range(GATEWAYS_MAX + 9)]

    assert [*range(1, GATEWAYS_MAX)] == told(names[: GATEWAYS_MAX - 1])
    assert [*range(1, GATEWAYS_MAX + 1)] == told(names[:GATEWAYS_MAX])
    assert [*range(1, GATEWAYS_MAX + 1)] == told(names) == told(names[::-1])


def test_endpoints_have_what_grpc_asks_for() -> None:
    resources = {
        each.name: each
        for each in assignments(by_cluster([sample.endpoint("orders-1", 4711)]), ["orders", "catalog", "edge"])
    }
    message: Any = message_class("envoy.config.endpoint.v3.ClusterLoadAssignment")
    orders = message.FromString(resources["orders"].content)
    (locality,) = orders.endpoints
    (endpoint,) = locality.lb_endpoints

    assert {"orders", "catalog", "edge"} == resources.keys()
    assert [] == list(message.FromString(resources["catalog"].content).endpoints)
    assert locality.HasField("locality")
    assert 1 == locality.load_balancing_weight.value
    assert ("127.0.0.1", 4711) == (
        endpoint.endpoint.address.socket_address.address,
        endpoint.endpoint.address.socket_address.port_value,
    )


def test_nothing_is_served_before_bundle_and_endpoints_are_both_known() -> None:
    feed = Feed()
    heard: list[None] = []
    feed.subscribe(lambda: heard.append(None))
    feed.set_bundle(sample.bundle())
    feed.set_keys(sample.KEYS.encode())
    assert (False, None, []) == (feed.loaded, feed.snapshot(Kind.GRPC), heard)

    feed.set_endpoints([])

    assert feed.loaded
    assert 1 == len(heard)


def test_listeners_hear_of_changes_only_until_they_unsubscribe() -> None:
    feed = loaded()
    heard: list[None] = []
    unsubscribe = feed.subscribe(lambda: heard.append(None))
    feed.set_endpoints([sample.endpoint("orders-1", 4711)])
    assert [] == heard
    feed.set_endpoints([sample.endpoint("orders-1", 4712)])
    unsubscribe()
    feed.set_endpoints([sample.endpoint("orders-1", 4713)])

    assert 1 == len(heard)


def test_a_change_of_one_service_is_told_to_those_who_follow_it_and_makes_nothing_else_anew() -> None:
    feed = loaded(*sample.rows(), *sample.rows("catalog"))
    told: list[tuple[str, str, tuple[str, ...]]] = []

    def follow(who: str, kind: Kind, *names: str) -> None:
        watch = feed.subscribers(kind).open(lambda of, changed: told.append((who, of, tuple(changed))))
        watch.add(EDS, names)

    follow("caller of orders", Kind.GRPC, "orders")
    follow("caller of catalog", Kind.GRPC, "catalog")
    follow("gateway", Kind.ENVOY, "orders", "catalog")
    follow("observer", Kind.ENVOY, "*")
    before = served(feed, Kind.GRPC)
    feed.set_endpoints([sample.endpoint("orders-1", 4711), sample.endpoint("catalog-1", 4712, "catalog")])

    after = served(feed, Kind.GRPC)
    assert [(who, EDS, ("catalog",)) for who in ("caller of catalog", "gateway", "observer")] == sorted(told)
    assert before.of(CDS) is after.of(CDS)
    assert before.of(EDS).resources["orders"] is after.of(EDS).resources["orders"]
    assert after.of(EDS) is served(feed, Kind.ENVOY).of(EDS)


def test_a_version_is_the_same_whatever_way_led_to_it() -> None:
    one, two = sample.endpoint("orders-1", 4711), sample.endpoint("other-1", 4712, "other")
    feed = loaded()
    for endpoints in ([one, two], [two], []):
        feed.set_endpoints(endpoints)
    assert {"orders", "edge"} == served(feed, Kind.GRPC).of(EDS).resources.keys()
    feed.set_endpoints([one])

    assert served(loaded(), Kind.GRPC).of(EDS).version == served(feed, Kind.GRPC).of(EDS).version


def test_a_stream_that_ended_is_told_nothing() -> None:
    feed = loaded()
    told: list[str] = []
    watch = feed.subscribers(Kind.GRPC).open(lambda of, changed: told.append(of))
    watch.add(EDS, ["orders", "*"])
    feed.subscribers(Kind.GRPC).close(watch)
    feed.set_endpoints([])

    assert [] == told


def test_the_token_filter_is_withheld_until_there_are_keys_and_then_carries_them() -> None:
    feed = loaded(*EVERYTHING)
    assert {} == served(feed, Kind.ENVOY).of(ECDS).resources
    assert ["gateway"] == list(served(feed, Kind.ENVOY).of(LDS).resources)

    feed.set_keys(sample.KEYS.encode())

    assert sample.KEYS == token_filter_of(served(feed, Kind.ENVOY)).providers["weft"].local_jwks.inline_string
    assert {} == served(feed, Kind.GRPC).of(ECDS).resources


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"\xff", b"[]", b"{}", b'{"keys": []}', b'{"keys": [1]}', b'{"keys": [{"kty": "EC"}]}', b"[" * 100_000),
        json.dumps({"keys": [{"kty": "EC", "kid": "k", "d": "secret"}]}).encode(),
        json.dumps({"keys": [{"kty": "oct", "kid": "k", "k": "secret"}]}).encode(),
    ],
)
def test_damaged_or_private_keys_are_refused_and_the_last_good_ones_stay(document: bytes) -> None:
    feed = loaded(*EVERYTHING)
    feed.set_keys(sample.KEYS.encode())
    before = REGISTRY.get_sample_value("weft_xds_refused_total", {"source": "keys"}) or 0.0
    feed.set_keys(document)

    assert sample.KEYS == token_filter_of(served(feed, Kind.ENVOY)).providers["weft"].local_jwks.inline_string
    assert before + 1 == REGISTRY.get_sample_value("weft_xds_refused_total", {"source": "keys"})


def test_a_refusal_of_keys_does_not_repeat_the_secret() -> None:
    with pytest.raises(ValueError, match="private") as caught:
        checked_keys(json.dumps({"keys": [{"kty": "EC", "kid": "k", "d": "hunter2"}]}).encode())

    assert "hunter2" not in str(caught.value)


def test_a_cluster_never_changes_its_type_under_one_name() -> None:
    feed = loaded()
    static = sample.cluster("orders", type="STATIC", eds_cluster_config=None)
    with pytest.raises(BundleRefusedError, match="give it another name"):
        feed.set_bundle(sample.bundle(("all", static), *sample.rows()[1:]))

    assert ["orders"] == list(served(feed, Kind.GRPC).of(CDS).resources)


def test_endpoint_counts_are_exposed_and_fall_to_zero() -> None:
    feed = loaded()
    assert 1 == REGISTRY.get_sample_value("weft_endpoints", {"service": "orders"})
    feed.set_endpoints([])

    assert 0 == REGISTRY.get_sample_value("weft_endpoints", {"service": "orders"})


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_a_response_put_together_from_bytes_is_the_message(size: int) -> None:
    resource = Resource.of(CDS, "orders", b"x" * size)
    encoded = encode(Response(CDS, "v1", "7", (resource, resource)))
    message: Any = message_class("envoy.service.discovery.v3.DiscoveryResponse").FromString(encoded)

    assert ("v1", "7", CDS) == (message.version_info, message.nonce, message.type_url)
    assert [(CDS, resource.content)] * 2 == [(each.type_url, each.value) for each in message.resources]
