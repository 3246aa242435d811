"""The contracts as files: vendored copies are true copies, and what all parts read of a policy is what it says."""

import importlib.util
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from weft.catalog.v1 import catalog_pb2
from weft.identity.v1 import identity_pb2
from weft.options.v1 import policy_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import policy, xds

ROOT = Path(__file__).resolve().parents[2]
VENDORED = sorted((ROOT / "protos" / "third_party" / "google").rglob("*.proto"))


@pytest.mark.parametrize("path", VENDORED, ids=lambda path: path.name)
def test_a_vendored_file_is_what_the_wheel_carries(path: Path) -> None:
    spec = importlib.util.find_spec("google.api")
    assert spec is not None
    assert spec.submodule_search_locations
    installed = Path(next(iter(spec.submodule_search_locations))).parent

    assert (installed / path.relative_to(ROOT / "protos" / "third_party" / "google")).read_text() == path.read_text()


def test_a_method_inherits_what_it_does_not_say() -> None:
    methods = orders_pb2.DESCRIPTOR.services_by_name["OrderService"].methods_by_name

    place, watch = policy.effective(methods["PlaceOrder"]), policy.effective(methods["WatchOrder"])

    assert (["orders.write"], 50, 5) == (list(place.scopes), place.rate_limit.requests, place.timeout.seconds)
    assert (["orders.read"], 50, 0) == (list(watch.scopes), watch.rate_limit.requests, watch.timeout.seconds)


def test_a_method_replaces_a_part_as_a_whole() -> None:
    service, method = descriptor_pb2.ServiceOptions(), descriptor_pb2.MethodOptions()
    service.Extensions[policy_pb2.defaults].rate_limit.requests = 5
    service.Extensions[policy_pb2.defaults].rate_limit.burst = 9
    service.Extensions[policy_pb2.defaults].scopes.append("orders.read")
    method.Extensions[policy_pb2.policy].rate_limit.requests = 7
    method.Extensions[policy_pb2.policy].public = True

    merged = policy.merge(service, method)

    assert (7, 0) == (merged.rate_limit.requests, merged.rate_limit.burst)
    assert (True, []) == (merged.public, list(merged.scopes))


def test_every_method_is_public_or_names_a_scope() -> None:
    undecided = [
        method.full_name
        for service in policy.SERVICES
        for method in service.methods
        if policy.effective(method).public == bool(policy.effective(method).scopes)
    ]

    assert [] == undecided
    assert {"CreateUser", "CreateSession", "RefreshSession"} == {
        method.name for service in policy.SERVICES for method in service.methods if policy.effective(method).public
    }


def test_only_messages_that_say_so_are_events() -> None:
    assert "weft.orders.v1.OrderPlaced" in {event.full_name for event in policy.EVENTS}
    assert policy.event_policy(catalog_pb2.Product.DESCRIPTOR) is None
    assert "identity" == policy.service_owner(identity_pb2.DESCRIPTOR.services_by_name["IdentityService"].full_name)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"nme": "orders"}, r"Cluster: .* has no field 'nme'; did you mean 'name'\?"),
        ({"type": "EDSX"}, r"Cluster\.type: .* has no label 'EDSX'; it has STATIC"),
        ({"type": "EDS", "cluster_type": {"name": "x"}}, "'type' and 'cluster_type' exclude each other"),
        ({"connect_timeout": "soon"}, r"Cluster\.connect_timeout: "),
        ({"load_assignment": {"endpoints": [{"lb_endpoint": []}]}}, r"Cluster\.load_assignment\.endpoints\[0\]: "),
        ({"load_assignment": {"endpoints": "x"}}, r"Cluster\.load_assignment\.endpoints: expected a list, got str"),
        ({"name": 5}, r"Cluster\.name: "),
    ],
)
def test_a_wrong_resource_is_refused_with_the_path_of_the_mistake(fields: dict[str, object], says: str) -> None:
    with pytest.raises(xds.XdsFieldError, match=says):
        xds.envoy("config.cluster.v3.Cluster", **fields)


def test_a_resource_is_built_from_plain_values() -> None:
    cluster = xds.envoy(
        "config.cluster.v3.Cluster",
        name="orders",
        type="EDS",
        connect_timeout="0.25s",
        per_connection_buffer_limit_bytes=32768,
        typed_extension_protocol_options={
            "x": xds.envoy("extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={}),
        },
    )

    assert {
        "name": "orders",
        "type": "EDS",
        "connect_timeout": "0.250s",
        "per_connection_buffer_limit_bytes": 32768,
        "typed_extension_protocol_options": {
            "x": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {},
            }
        },
    } == xds.to_dict(cluster)
