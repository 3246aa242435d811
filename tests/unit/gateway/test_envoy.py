"""Resources for Envoy: goldens of a small contract, and what must hold for every route of the real ones."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway import compiler
from gateway.compiler import Bundle
from gateway.envoy import bootstrap, json_schema, listener, names, proxyless, route
from gateway.envoy.edge import Edge, Profile
from gateway.envoy.filters import CHAIN
from gateway.policy import PolicySet, find
from weft_protos.xds import to_dict

from .conftest import TESTDATA, inlined

Golden = Callable[[str, str], None]


@pytest.fixture(scope="module")
def shop(plant: Callable[[str], PolicySet]) -> PolicySet:
    """A small contract with one method of each kind."""
    return plant((TESTDATA / "shop.proto").read_text())


@pytest.fixture(scope="module")
def table(policies: PolicySet) -> dict[str, Any]:
    """The route table of the real contracts."""
    host: dict[str, Any] = to_dict(route.build(policies, Edge()))["virtual_hosts"][0]
    return host


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


def _select(table: dict[str, Any], verb: str, path: str, accept: str = "*/*") -> str:
    """The first route that takes a request, as Envoy chooses it."""
    for entry in table["routes"]:
        match = entry["match"]
        fits = (
            match.get("path") == path
            or ("prefix" in match and path.startswith(match["prefix"]))
            or ("safe_regex" in match and re.fullmatch(match["safe_regex"]["regex"], path))
        )
        if fits and all(_fits(header, {":method": verb, "accept": accept}) for header in match.get("headers", [])):
            return str(entry["name"])
    return ""


def _fits(header: dict[str, Any], sent: dict[str, str]) -> bool:
    said, value = header.get("string_match", {}), sent.get(header["name"], "")
    if "safe_regex" in said:
        return re.fullmatch(said["safe_regex"]["regex"], value) is not None
    return said.get("exact") == value or ("contains" in said and said["contains"] in value)


def test_routes_are_as_agreed(shop: PolicySet, golden: Golden) -> None:
    golden("routes.json", _pretty(to_dict(route.build(shop, Edge()))))


def test_routes_for_grpc_are_as_agreed(golden: Golden) -> None:
    golden("grpc.json", _pretty([to_dict(proxyless.listener("shop")), to_dict(proxyless.routes("shop"))]))


def test_discovered_filters_are_as_agreed(shop: PolicySet, golden: Golden) -> None:
    filters = [to_dict(extension) for extension in listener.extensions(shop)]
    for found in filters:
        found["typed_config"].pop("proto_descriptor_bin", None)
        found["typed_config"].pop("default_source_code", None)
    golden("filters.json", _pretty(filters))


def test_the_chain_is_as_agreed(golden: Golden) -> None:
    golden(
        "chain.txt", "".join(f"{link.name}{' (ECDS)' if link.discovered else ''}: {link.reason}\n" for link in CHAIN)
    )


def test_the_listener_is_as_agreed(shop: PolicySet, golden: Golden) -> None:
    found = to_dict(listener.build(shop, Edge())[1])
    for link in found["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]:
        link.get("typed_config", {}).pop("default_source_code", None)
    golden("listener.json", _pretty(found))


def test_a_per_route_config_names_a_filter_of_the_chain(table: dict[str, Any]) -> None:
    # Under another name Envoy ignores it without a word, and the check it configures is off.
    known = {link.name for link in CHAIN}
    used = {key for entry in table["routes"] for key in entry["typed_per_filter_config"]}

    assert used <= known
    assert set(table["typed_per_filter_config"]) <= known


def test_every_route_needs_a_token_unless_it_is_public(table: dict[str, Any], policies: PolicySet) -> None:
    public = {rpc.name for rpc in policies.rpcs if rpc.policy.public} | set(route.REFLECTION)
    public |= {"console", "pages", "welcome", "nothing", "too-many-headers", "two-hosts"}
    exempted = {
        entry["name"].split(" ")[0]
        for entry in table["routes"]
        if entry["typed_per_filter_config"].get(names.JWT, {}).get("disabled")
    }

    assert names.TOKEN_REQUIREMENT == table["typed_per_filter_config"][names.JWT]["requirement_name"]
    assert public == exempted
    assert all(names.RBAC in entry["typed_per_filter_config"] for entry in table["routes"])


def test_in_production_only_methods_are_served_and_only_over_tls(bundle: Bundle, policies: PolicySet) -> None:
    production = Edge.of(Profile.PRODUCTION)
    found = to_dict(route.build(policies, production))["virtual_hosts"][0]["routes"]
    local = to_dict(route.build(policies, Edge()))["virtual_hosts"][0]["routes"]
    shown = {*route.REFLECTION, "console", "pages", "welcome"}

    assert [entry for entry in local if entry["name"] not in shown] == found
    assert ["edge-tls"] == [message.name for message in listener.build(policies, production)]
    assert ["edge", "edge-tls"] == [message.name for message in listener.build(policies, replace(production, port=80))]
    assert 5.0 == production.trace_percent


def test_only_a_method_leads_to_a_service(table: dict[str, Any], policies: PolicySet) -> None:
    clusters = {entry["name"]: entry["route"]["cluster"] for entry in table["routes"] if "route" in entry}
    leading = {name: cluster for name, cluster in clusters.items() if cluster != names.NOWHERE}
    beside = dict.fromkeys(route.REFLECTION, names.XDS) | dict.fromkeys(("console", "pages"), names.PAGES)

    calls = {rpc.name: rpc.owner for rpc in policies.rpcs if not rpc.method.streaming}
    streams = {rpc.name: f"{rpc.owner}~streams" for rpc in policies.rpcs if rpc.method.streaming}
    assert calls | streams | beside == leading


def test_nobody_defines_the_cluster_of_a_dead_end(bundle: Bundle, settings: bootstrap.Settings) -> None:
    static = to_dict(bootstrap.build(settings))["static_resources"]["clusters"]
    sent = [resource.name for resource in bundle.resources if type(resource.message).__name__ == "Cluster"]

    assert names.NOWHERE not in {*sent, *(cluster["name"] for cluster in static)}


def test_metrics_are_on_loopback_unless_somebody_names_another_address(settings: bootstrap.Settings) -> None:
    def shown(settings: bootstrap.Settings) -> Any:
        [listener_] = to_dict(bootstrap.build(settings))["static_resources"]["listeners"]
        return listener_["address"]["socket_address"]["address"]

    assert "127.0.0.1" == shown(settings)
    assert "0.0.0.0" == shown(replace(settings, metrics_address="0.0.0.0"))


def test_a_path_that_no_route_knows_is_not_transcoded(table: dict[str, Any]) -> None:
    # The transcoder takes `/v1/sessions/` too, and the limit by address of CreateSession would not have counted it.
    (last,) = (entry for entry in table["routes"] if entry["match"] == {"prefix": "/"})

    assert {"disabled": True} == {
        key: value for key, value in last["typed_per_filter_config"][names.TRANSCODER].items() if key != "@type"
    }


def test_cors_holds_on_every_route_that_a_page_may_ask_for(table: dict[str, Any]) -> None:
    # The cors filter passes over routes with a direct response: no answer to preflights, no allow header.
    # None of these is for pages: a browser names one host, and what a page says of itself is not that long.
    assert ["two-hosts", "too-many-headers", "welcome"] == [
        entry["name"] for entry in table["routes"] if "route" not in entry
    ]


@pytest.mark.parametrize(
    ("verb", "path", "expected"),
    [
        ("POST", "/weft.orders.v1.OrderService/PlaceOrder", "PlaceOrder"),
        ("POST", "/v1/orders", "PlaceOrder"),
        ("GET", "/v1/orders", "ListOrders"),
        ("GET", "/v1/orders/1-2", "GetOrder"),
        ("POST", "/v1/orders/1-2:cancel", "CancelOrder"),
        ("GET", "/v1/orders/1-2:watch", "WatchOrder"),
        ("GET", "/v1/products:batchGet", "BatchGetProducts"),
        ("PATCH", "/v1/products/A1", "UpdateProduct"),
        ("POST", "/v1/sessions:refresh", "RefreshSession"),
        ("GET", "/", "welcome"),
        ("GET", "/assets/index-4f2a.js", "pages"),
        ("HEAD", "/docs/runbooks/ServiceDown.html", "pages"),
        ("GET", "/docs", "pages"),
        ("GET", "/assets/a/b.js", "nothing"),
        ("GET", "/docsify", "nothing"),
        ("POST", "/assets/index-4f2a.js", "nothing"),
        ("GET", "/v1/orders/1/2", "nothing"),
        ("DELETE", "/v1/orders/1", "nothing"),
        ("GET", "/weft.orders.v1.OrderService/PlaceOrder", "nothing"),
        ("POST", "/weft.orders.v1.OrderService/PlaceOrderX", "nothing"),
    ],
)
def test_a_request_meets_the_route_of_its_method(table: dict[str, Any], verb: str, path: str, expected: str) -> None:
    assert expected == _select(table, verb, path).split(" ")[0].split("/")[-1]


def test_a_browser_gets_the_console_and_others_a_line(table: dict[str, Any]) -> None:
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

    assert ("console", "welcome") == (_select(table, "GET", "/", browser), _select(table, "GET", "/"))


@pytest.mark.parametrize(
    ("template", "regex"),
    [
        ("/v1/orders", "/v1/orders"),
        ("/v1/{name=orders/*}:cancel", "/v1/orders/[^/]+:cancel"),
        ("/v1/{order}/items/*", "/v1/[^/]+/items/[^/]+"),
        ("/v1/{name=files/**}", "/v1/files/.+"),
        ("/v1.1/a+b", r"/v1\.1/a\+b"),
    ],
)
def test_a_path_template_becomes_a_regular_expression(template: str, regex: str) -> None:
    assert regex == route.path_regex(template)


def test_timeouts_and_retries_follow_the_contract(table: dict[str, Any], policies: PolicySet) -> None:
    routes = {entry["name"]: entry.get("route") for entry in table["routes"]}

    assert {
        rpc.name: ((rpc.policy.timeout or 0) and rpc.policy.timeout.total_seconds(), (rpc.policy.max_attempts or 1) - 1)
        for rpc in policies.rpcs
        if rpc.policy.timeout is not None
    } == {
        rpc.name: (
            float(routes[rpc.name]["timeout"].rstrip("s")),
            routes[rpc.name].get("retry_policy", {}).get("num_retries", 0),
        )
        for rpc in policies.rpcs
    }


def test_no_two_buckets_match_one_request(policies: PolicySet) -> None:
    # Of two that match, Envoy takes one by luck of the start.
    for extension in listener.extensions(policies):
        if extension.name not in (names.ADDRESS_LIMIT, names.SUBJECT_LIMIT):
            continue
        described = [
            tuple((entry["key"], entry.get("value", "*")) for entry in descriptor["entries"])
            for descriptor in to_dict(extension)["typed_config"]["descriptors"]
        ]
        assert len(set(described)) == len(described)
        assert all(any(value != "*" for _, value in entries) or len(entries) == 1 for entries in described)


def test_what_a_refused_caller_is_told_comes_from_its_method(policies: PolicySet, table: dict[str, Any]) -> None:
    rpc = find(policies, "CreateSession")
    said = {
        entry["name"]: entry["metadata"]["filter_metadata"][names.LUA_METADATA]
        for entry in table["routes"]
        if entry["name"].startswith(rpc.name)
    }

    assert [rpc.name, f"{rpc.name} POST /v1/sessions"] == list(said)
    assert {"address"} == {words["limit_key"] for words in said.values()}
    assert ("rate_limit: 20 per 1s", rpc.places["rate_limit"].contract) == (
        said[rpc.name]["limit_rule"],
        said[rpc.name]["limit_contract"],
    )


def test_json_paths_name_their_body_and_grpc_paths_none(table: dict[str, Any], policies: PolicySet) -> None:
    bodies = {
        entry["name"]: entry["metadata"]["filter_metadata"].get(names.STRICT_JSON, {}).get("json_body")
        for entry in table["routes"]
        if "metadata" in entry
    }
    paths = {json_schema.key(rpc, binding) for rpc in policies.rpcs for binding in rpc.method.bindings}

    assert {rpc.name: None for rpc in policies.rpcs} | {path: path for path in paths} == bodies


def test_a_body_is_bounded_before_it_is_checked_and_checked_before_it_is_read() -> None:
    order = [link.name for link in CHAIN]

    assert order.index(names.ADDRESS_LIMIT) < order.index(names.SIZE) < order.index(names.STRICT_JSON)
    assert order.index(names.STRICT_JSON) + 1 == order.index(names.TRANSCODER)


def test_envoy_accepts_everything(
    bundle: Bundle,
    settings: bootstrap.Settings,
    secret: Path,
    envoy_says: Callable[[dict[str, Any]], str],
) -> None:
    assert "" == envoy_says(inlined(bundle, settings, secret=secret))


def test_envoy_accepts_the_small_contract_too(
    shop: PolicySet,
    settings: bootstrap.Settings,
    secret: Path,
    envoy_says: Callable[[dict[str, Any]], str],
) -> None:
    assert "" == envoy_says(inlined(compiler.emit(shop, Edge()), settings, secret=secret))


def test_envoys_validation_reads_what_the_bundle_says(
    bundle: Bundle,
    settings: bootstrap.Settings,
    secret: Path,
    envoy_says: Callable[[dict[str, Any]], str],
) -> None:
    broken = inlined(bundle, settings, secret=secret)
    manager = broken["static_resources"]["listeners"][1]["filter_chains"][0]["filters"][0]["typed_config"]
    refusal = next(each for each in manager["http_filters"] if each["name"] == names.REFUSAL)
    script = refusal["typed_config"]["extension_config"]["typed_config"]
    script["default_source_code"]["inline_string"] += "\nend"

    assert "script load error" in envoy_says(broken)


def test_envoy_accepts_the_bootstrap_as_it_is_written(
    settings: bootstrap.Settings, envoy_says: Callable[[bytes], str]
) -> None:
    message = bootstrap.build(settings)

    assert "" == envoy_says(message.SerializeToString())


def test_a_bootstrap_shows_of_the_admin_interface_only_metrics_and_readiness(settings: bootstrap.Settings) -> None:
    found = to_dict(bootstrap.build(settings))
    manager = found["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]

    assert {"pipe": {"path": str(settings.admin_socket), "mode": 0o600}} == found["admin"]["address"]
    assert ["/stats/prometheus", "/ready"] == [entry["match"]["path"] for entry in routes if "route" in entry]
    assert {"GET"} == {entry["match"]["headers"][0]["string_match"]["exact"] for entry in routes if "route" in entry}
    assert {"local_cluster_name": "edge"} == found["cluster_manager"]
