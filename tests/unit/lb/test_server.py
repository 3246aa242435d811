"""The control plane against gRPC's own xDS client and against plain ADS streams, over real sockets, without etcd."""

import json
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from prometheus_client import REGISTRY

from lb import bootstrap
from lb.xds.types import CDS, EDS, LDS
from tests.unit.lb import sample
from tests.unit.lb.ads import DELTA, STREAM, Ads, answer_of, delta_answer_of, delta_request, request
from tests.unit.lb.conftest import Client, ControlPlane, eventually
from weft_protos.policy import SERVICES
from weft_protos.xds import envoy, message_class

Start = Callable[..., Client]
Backend = Callable[[str], int]


def test_a_call_reaches_the_registered_instance(
    control_plane: ControlPlane, client_of: Start, backend: Backend
) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", backend("one"))]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))

    assert {"answer": "one"} == client_of().ask("call", 10)


def test_endpoints_that_change_are_followed_and_removed_ones_are_not_called(
    control_plane: ControlPlane, client_of: Start, backend: Backend
) -> None:
    one, two = sample.endpoint("orders-1", backend("one")), sample.endpoint("orders-2", backend("two"))
    control_plane.feeding(lambda feed: feed.set_endpoints([one]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    client = client_of()
    client.until(lambda answer: answer.get("answer") == "one")

    control_plane.feeding(lambda feed: feed.set_endpoints([one, two]))
    client.until(lambda answer: answer.get("answer") == "two")
    control_plane.feeding(lambda feed: feed.set_endpoints([two]))
    client.until(lambda answer: answer.get("answer") == "two")
    control_plane.feeding(lambda feed: feed.set_endpoints([]))

    assert "UNAVAILABLE" == client.until(lambda answer: "code" in answer)["code"]


def test_without_a_snapshot_nothing_is_answered_and_with_one_the_waiting_client_is_served(
    control_plane: ControlPlane, client_of: Start, backend: Backend
) -> None:
    client = client_of()
    assert "DEADLINE_EXCEEDED" == client.ask("call", 0.5)["code"]

    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    assert "DEADLINE_EXCEEDED" == client.ask("call", 0.5)["code"]
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", backend("one"))]))

    assert "one" == client.until(lambda answer: "answer" in answer)["answer"]


def test_clients_keep_calling_while_the_control_plane_is_away_and_follow_it_when_it_is_back(
    control_plane: ControlPlane, client_of: Start, backend: Backend
) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", backend("one"))]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    client = client_of()
    client.until(lambda answer: "answer" in answer)

    control_plane.stop()
    assert {"answer": "one"} == client.ask("call")
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-2", backend("two"))]))
    control_plane.start()

    assert "two" == client.until(lambda answer: answer.get("answer") != "one")["answer"]


def test_a_client_falls_back_to_the_second_control_plane(
    control_plane: ControlPlane, client_of: Start, backend: Backend
) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", backend("one"))]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    dead = ControlPlane()
    dead.start()
    dead.stop()
    try:
        client = client_of(dead.address, control_plane.address)

        assert {"answer": "one"} == client.ask("call", 10)
    finally:
        dead.close()


def test_a_refused_response_is_counted(control_plane: ControlPlane, client_of: Start) -> None:
    labels = {"kind": "grpc", "type": "Cluster"}
    before = REGISTRY.get_sample_value("weft_xds_nacks_total", labels) or 0.0
    refused = ("grpc", sample.cluster("orders", lb_policy="CLUSTER_PROVIDED"))
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(refused, *sample.rows()[1:])))

    client_of().ask("call", 2)

    eventually(lambda: before + 1 == REGISTRY.get_sample_value("weft_xds_nacks_total", labels))


def test_envoy_and_grpc_are_given_different_listeners_and_the_same_clusters(control_plane: ControlPlane) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(*sample.rows(), *sample.gateway_rows())))
    names = {}
    for kind in ("envoy", "grpc"):
        ads = Ads(control_plane.address)
        answer = answer_of(next(ads.open(request(LDS, kind=kind))))
        names[kind] = [
            message_class("envoy.config.listener.v3.Listener").FromString(each.value).name for each in answer.resources
        ]
        ads.close()

    assert {"envoy": ["gateway"], "grpc": ["orders"]} == names


def test_a_stream_by_delta_is_sent_what_changed_and_comes_back_to_the_differences(control_plane: ControlPlane) -> None:
    one, two = sample.endpoint("orders-1", 1), sample.endpoint("catalog-1", 2, "catalog")
    control_plane.feeding(lambda feed: feed.set_endpoints([one, two]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle(*sample.rows(), *sample.rows("catalog"))))
    ads = Ads(control_plane.address, DELTA)
    call = ads.open(delta_request(EDS, "orders", "catalog", "nobody"))
    first, missing = delta_answer_of(next(call)), delta_answer_of(next(call))
    control_plane.feeding(lambda feed: feed.set_endpoints([sample.endpoint("orders-1", 3), two]))
    changed = delta_answer_of(next(call))
    ads.close()

    assert (["catalog", "orders"], []) == ([each.name for each in first.resources], list(first.removed_resources))
    assert ([], ["nobody"]) == ([each.name for each in missing.resources], list(missing.removed_resources))
    (orders,) = changed.resources
    assert ("orders", EDS) == (orders.name, orders.resource.type_url)

    held = {each.name: each.version for each in first.resources}
    again = Ads(control_plane.address, DELTA)
    call = again.open(delta_request(EDS, "orders", "catalog", initial_resource_versions=held))
    answer = delta_answer_of(next(call))
    again.close()
    assert [("orders", orders.version)] == [(each.name, each.version) for each in answer.resources]


def test_what_a_stream_by_delta_refuses_is_known_by_type_and_in_its_words(control_plane: ControlPlane) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    ads = Ads(control_plane.address, DELTA)
    call = ads.open(delta_request(CDS, node="picky"))
    answer = delta_answer_of(next(call))
    refusal = {"code": 3, "message": "not that one"}
    ads.send(delta_request(CDS, response_nonce=answer.nonce, error_detail=refusal))

    def known() -> list[tuple[str, str, tuple[str, ...]]]:
        clients = control_plane.clients.status().clients
        return [(each.node, each.state, tuple(f"{r.type}: {r.detail}" for r in each.refusals)) for each in clients]

    eventually(lambda: known() == [("picky", "NACKED", ("Cluster: not that one",))], known)
    control_plane.feeding(
        lambda feed: feed.set_bundle(
            sample.bundle(("all", sample.cluster("orders", connect_timeout="2s")), *sample.rows()[1:])
        )
    )
    again = delta_answer_of(next(call))
    ads.send(delta_request(CDS, response_nonce=again.nonce))
    eventually(lambda: known() == [("picky", "SYNCED", ())], known)
    ads.close()


def test_a_gateway_is_an_endpoint_of_edge_while_its_stream_lives(control_plane: ControlPlane) -> None:
    ads = Ads(control_plane.address)
    ads.open(request(CDS))
    eventually(lambda: len(control_plane.gateways) == 1)
    ads.close()
    eventually(lambda: len(control_plane.gateways) == 2, lambda: control_plane.gateways)

    (arrived, endpoint), (departed, same) = control_plane.gateways
    assert ("arrived", "departed", "edge", "gateway-1") == (arrived, departed, endpoint.service, endpoint.instance)
    assert endpoint == same


def test_a_gateway_does_not_depart_because_its_control_plane_stops(control_plane: ControlPlane) -> None:
    ads = Ads(control_plane.address)
    ads.open(request(CDS))
    eventually(lambda: len(control_plane.gateways) == 1)
    control_plane.stop()
    ads.close()

    assert ["arrived"] == [event for event, _ in control_plane.gateways]


def test_a_stream_without_a_node_is_refused(control_plane: ControlPlane) -> None:
    ads = Ads(control_plane.address)
    call = ads.open(envoy("service.discovery.v3.DiscoveryRequest", type_url=CDS))

    assert grpc.StatusCode.INVALID_ARGUMENT == call.code()
    ads.close()


def test_garbage_ends_its_stream_and_nobody_elses(control_plane: ControlPlane) -> None:
    control_plane.feeding(lambda feed: feed.set_endpoints([]))
    control_plane.feeding(lambda feed: feed.set_bundle(sample.bundle()))
    with grpc.insecure_channel(control_plane.address) as channel:
        method = channel.stream_stream(STREAM)
        assert grpc.StatusCode.INVALID_ARGUMENT == method(iter([b"\xff\xff\xff"]), timeout=5).code()
    ads = Ads(control_plane.address)

    assert EDS == answer_of(next(ads.open(request(EDS, "orders")))).type_url
    ads.close()


def test_health_is_serving_only_once_it_is_said(control_plane: ControlPlane) -> None:
    with grpc.insecure_channel(control_plane.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        before = check(health_pb2.HealthCheckRequest(), timeout=5).status
        control_plane.serving()
        after = check(health_pb2.HealthCheckRequest(), timeout=5).status

    assert ["NOT_SERVING", "SERVING"] == [
        health_pb2.HealthCheckResponse.ServingStatus.Name(status) for status in (before, after)
    ]


def test_reflection_lists_and_describes_every_contract_in_both_versions(control_plane: ControlPlane) -> None:
    expected = {service.full_name for service in SERVICES}
    with grpc.insecure_channel(control_plane.address) as channel:
        for version in ("v1", "v1alpha"):
            ask = channel.stream_stream(
                f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            requests = [
                reflection_pb2.ServerReflectionRequest(list_services=""),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="weft.orders.v1.OrderService"),
                reflection_pb2.ServerReflectionRequest(file_containing_symbol="google.rpc.BadRequest"),
            ]
            listed, described, details = ask(iter(requests), timeout=5)

            assert expected == {each.name for each in listed.list_services_response.service}
            assert described.file_descriptor_response.file_descriptor_proto
            assert details.file_descriptor_response.file_descriptor_proto


def test_the_bootstrap_names_every_control_plane() -> None:
    environ = {"GRPC_XDS_BOOTSTRAP": "/elsewhere", "OTHER": "kept"}
    bootstrap.install(environ, ["127.0.0.1:1", "127.0.0.1:2"], bootstrap.Client("orders-1", "orders"))
    document = json.loads(environ.pop("GRPC_XDS_BOOTSTRAP_CONFIG"))

    assert {"OTHER": "kept"} == environ
    assert ["127.0.0.1:1", "127.0.0.1:2"] == [server["server_uri"] for server in document["xds_servers"]]
    assert ("orders-1", "grpc") == (document["node"]["id"], document["node"]["metadata"]["kind"])
