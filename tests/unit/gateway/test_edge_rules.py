"""What the contract says about the edge: what must not be said, what a change changes, whom it breaks, what it does."""

import http.client
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2, status_pb2

from gateway import breaking, contract, plan, policy, rules
from gateway.envoy import bootstrap, names, route
from gateway.envoy.edge import Edge
from gateway.envoy.filters import address_limit, cors
from gateway.policy import PolicySet
from tests.hostile_tokens import Mint
from tests.waiting import free_port
from weft.options.v1 import policy_pb2
from weft_protos.xds import to_dict

from .conftest import EDGE_FILE
from .fronted import running

Plant = Callable[[str], PolicySet]
HEAD = 'syntax = "proto3";\npackage weft.shop.v1;\nimport "weft/options/v1/policy.proto";\n'
LIMIT = "address_limit: {requests: 50 per: {seconds: 1} burst: 100}"
FILE = "protos/weft/shop/v1/shop.proto"


def edge(said: str) -> str:
    return f"{HEAD}option (weft.options.v1.edge) = {{{said}}};\n"


def page(*origins: str, more: str = "") -> str:
    return edge(f"{LIMIT} cors: {{{' '.join(f'origins: {chr(34)}{each}{chr(34)}' for each in origins)} {more}}}")


VIOLATIONS = {
    "every page": (page("*"), "'*', which is every page there is"),
    "null": (page("null"), "'null', which any page can give itself"),
    "no scheme": (page("shop.example"), "which has no scheme of the web"),
    "another scheme": (page("ftp://shop.example"), "which has no scheme of the web"),
    "upper-case scheme": (page("HTTPS://shop.example"), "which has no scheme of the web"),
    "slash": (page("https://shop.example/"), "which ends in a slash"),
    "path": (page("https://shop.example/a"), "which is more than an origin"),
    "query": (page("https://shop.example?a"), "which is more than an origin"),
    "user": (page("https://a@shop.example"), "which is more than an origin"),
    "wild host": (page("https://*.shop.example"), "which has no host that a browser sends"),
    "upper-case host": (page("https://Shop.example"), "which has no host that a browser sends"),
    "unicode host": (page("https://ströme.example"), "which has no host that a browser sends"),
    "no host": (page("https://"), "which has no host that a browser sends"),
    "space": (page("https://shop.example "), "which has no host that a browser sends"),
    "two in one": (page("https://a.example,https://b.example"), "which is more than an origin"),
    "word as port": (page("https://shop.example:https"), "which has no host that a browser sends"),
    "port 0": (page("https://shop.example:0"), "which has no port that there is"),
    "port 70000": (page("https://shop.example:70000"), "which has no port that there is"),
    "default port": (page("https://shop.example:443"), "which names the port that browsers leave out"),
    "twice": (page("https://shop.example", "https://shop.example"), "names an origin twice"),
    "age 0": (page(more="max_age: {}"), "remembered for 0 s"),
    "age of two days": (page(more="max_age: {seconds: 172800}"), "remembered for 172800 s"),
    "no guard": (edge("cors: {}"), "one address may ask of the gateways whatever it likes"),
    "guard of nothing": (edge(LIMIT.replace("50", "0")), "address_limit allows 0 requests"),
    "guard without interval": (edge(LIMIT.replace("per: {seconds: 1}", "")), "address_limit is limited per 0 s"),
    "guard with a small burst": (edge(LIMIT.replace("100", "49")), "address_limit has a burst of 49"),
    "guard by subject": (edge(LIMIT.replace("burst", "key: KEY_SUBJECT burst")), "counts for each subject"),
}
SOUND = (
    "http://localhost:*",
    "https://127.0.0.1:*",
    "http://[::1]:8080",
    "https://shop.example",
    "https://a-b.shop.example:8443",
    "https://xn--strme-kua.example",
)


@pytest.mark.parametrize(("text", "says"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_a_planted_violation_is_named_with_its_line_and_a_fix(plant: Plant, text: str, says: str) -> None:
    (found,) = rules.check(plant(text))

    assert f"{FILE}:4" == str(found.location)
    assert says in found.message
    assert found.fix


def test_all_of_them_are_named_at_once(plant: Plant) -> None:
    text = edge('cors: {origins: "*" origins: "null" origins: "http://a/" max_age: {seconds: -1}}')

    assert 5 == len(rules.check(plant(text)))


def test_origins_of_every_sound_form_are_taken(plant: Plant) -> None:
    assert () == rules.check(plant(page(*SOUND, more="max_age: {seconds: 86400}")))


def test_a_method_may_not_promise_an_address_more_than_the_edge_lets_through(plant: Plant) -> None:
    method = """
import "google/api/annotations.proto";
message Request {}
service Shop {
  rpc Buy(Request) returns (Request) {
    option (google.api.http) = {post: "/v1/shops" body: "*"};
    option (weft.options.v1.policy) = {
      public: true timeout: {seconds: 1} rate_limit: {requests: 51 per: {seconds: 1} burst: 99}
    };
  }
}
"""
    (found,) = rules.check(plant(edge(LIMIT) + method))

    assert found.message.startswith("weft.shop.v1.Shop/Buy allows 51 per 1 s for each address")


def with_edges(descriptors: bytes, *files: str) -> bytes:
    """The real contracts, the edge said in these files of them."""
    found = FileDescriptorSet.FromString(descriptors)
    said = policy_pb2.EdgePolicy()
    for file in found.file:
        if file.name == EDGE_FILE:
            said.CopyFrom(file.options.Extensions[policy_pb2.edge])
            file.options.ClearExtension(policy_pb2.edge)
    for file in found.file:
        if file.name in files:
            file.options.Extensions[policy_pb2.edge].CopyFrom(said)
    return found.SerializeToString()


def test_two_files_that_say_it_are_refused_where_the_second_does(descriptors: bytes) -> None:
    both = with_edges(descriptors, EDGE_FILE, "weft/orders/v1/orders.proto")

    (found,) = rules.check(policy.resolve(contract.load(both)))

    assert "is said here and at protos/weft/" in found.message
    assert "say it in one file" == found.fix


def test_no_file_that_says_it_is_refused_where_it_belongs(descriptors: bytes) -> None:
    (found,) = rules.check(policy.resolve(contract.load(with_edges(descriptors))))

    assert (f"protos/{EDGE_FILE}:1", "no contract says what holds at the edge") == (str(found.location), found.message)


def test_a_plan_names_what_changes_at_the_edge(plant: Plant) -> None:
    before = plant(page("https://a.example", "https://b.example", more="max_age: {seconds: 60}"))
    after = plant(page("https://b.example", "https://c.example").replace("requests: 50", "requests: 40"))

    made = plan.make(before, after)

    assert "1 edge changed" == made.summary
    assert [
        "edges",
        "  ~ edge",
        f"      - origin        https://a.example   {FILE}:4",
        f"      + origin        https://c.example   {FILE}:4",
        f"      - max_age       60 s   {FILE}:4",
        "      ~ address_limit 50 per 1 s for each address, bursts of 100 -> "
        f"40 per 1 s for each address, bursts of 100   {FILE}:4",
    ] == str(made).splitlines()[:6]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("https://a.example", "https://b.example", "pages of https://a.example may no longer call"),
        ("http://localhost:*", "http://localhost", "pages of http://localhost:* may no longer call"),
    ],
)
def test_an_origin_taken_away_breaks_its_pages(plant: Plant, before: str, after: str, says: str) -> None:
    (found,) = breaking.check(plant(page(before)), plant(page(after)))

    assert says in found.message
    assert f'keep `origins: "{before}"`' == found.fix


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("requests: 50", "requests: 49", "addresses between the two are refused with 429"),
        ("seconds: 1", "seconds: 2", "addresses between the two are refused with 429"),
        ("burst: 100", "burst: 99", "one address may ask 99 at once, before 100"),
    ],
)
def test_a_lower_guard_breaks_who_shares_an_address(plant: Plant, old: str, new: str, says: str) -> None:
    text = edge(LIMIT)

    (found,) = breaking.check(plant(text), plant(text.replace(old, new)))

    assert says in found.message


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (edge(LIMIT), page("https://a.example")),
        (page("http://localhost", "http://localhost:3000"), page("http://localhost:*")),
        (edge(LIMIT), edge(LIMIT.replace("50", "60"))),
        (page(more="max_age: {seconds: 9}"), page()),
    ],
)
def test_what_gives_more_breaks_nobody(plant: Plant, before: str, after: str) -> None:
    assert () == breaking.check(plant(before), plant(after))


def test_contracts_from_before_the_edge_was_said_are_broken_by_nothing_of_it(descriptors: bytes) -> None:
    older = policy.resolve(contract.load(with_edges(descriptors)))

    assert () == breaking.check(older, policy.resolve(contract.load(descriptors)))


def test_the_guard_of_the_gateway_is_the_contracts(plant: Plant) -> None:
    found = to_dict(address_limit.build(plant(edge(LIMIT))))

    assert [{"max_tokens": 100, "tokens_per_fill": 50, "fill_interval": "1s"}] == [
        descriptor["token_bucket"] for descriptor in found["descriptors"]
    ]


def test_where_no_page_is_named_none_may_call(plant: Plant) -> None:
    found = to_dict(cors.for_virtual_host(plant(edge(LIMIT))))

    assert [] == found.get("allow_origin_string_match", [])
    assert "max_age" not in found


ALLOWED = ("https://shop.example", "https://b.example:8443", "http://localhost", "http://localhost:5173")
FOREIGN = (
    "null",
    "https://evil.example",
    "http://shop.example",
    "https://shop.example:8443",
    "https://shop.example.evil.example",
    "https://shopxexample",
    "https://evil.example/https://shop.example",
    "https://shop.example/",
    "https://SHOP.example",
    "https://b.example",
    "http://localhost:x",
    "http://localhost:123456",
    "http://localhost.evil.example",
    "http://localhost:80@evil.example",
)


def _preflight(gateway: str, origin: str) -> Mapping[str, Any]:
    connection = http.client.HTTPConnection(gateway, timeout=20)
    headers = {"origin": origin, "access-control-request-method": "POST"}
    connection.request("OPTIONS", "/v1/orders", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return {key.lower(): value for key, value in answer.getheaders()}


def test_a_browser_is_told_what_the_contract_says(descriptors: bytes, settings: bootstrap.Settings, mint: Mint) -> None:
    files = FileDescriptorSet.FromString(descriptors)
    said = next(file for file in files.file if file.name == EDGE_FILE).options.Extensions[policy_pb2.edge].cors
    said.origins[:] = ["https://shop.example", "https://b.example:8443", "http://localhost:*"]
    said.max_age.seconds = 77
    with running(files.SerializeToString(), settings, jwks=mint.jwks(), backend=free_port()) as gateway:
        answers = {origin: _preflight(gateway, origin) for origin in (*ALLOWED, *FOREIGN)}

    assert {origin: (origin, "77") for origin in ALLOWED} == {
        origin: (found["access-control-allow-origin"], found["access-control-max-age"])
        for origin, found in answers.items()
        if any(name.startswith("access-control-") for name in found)
    }


def test_every_route_says_which_line_guards_it(policies: PolicySet) -> None:
    lines = {
        to_dict(entry)["metadata"]["filter_metadata"][names.LUA_METADATA]["guard_contract"]
        for entry in route.routes(policies, Edge())
        if entry.name.startswith("weft.")
    }

    assert policies.edge is not None
    assert {policies.edge.places["address_limit"].contract} == lines


def test_one_address_tries_to_sign_in_as_often_as_the_contract_says_and_reads_on(
    descriptors: bytes, settings: bootstrap.Settings, mint: Mint
) -> None:
    # Far more attempts than the bucket holds, at once: letting all through would take it twenty seconds.
    attempts, burst, per_s = 500, 60, 20
    with (
        running(descriptors, settings, jwks=mint.jwks(), backend=free_port()) as gateway,
        grpc.insecure_channel(gateway, options=[("grpc.enable_retries", 0)]) as channel,
    ):
        call: Any = channel.unary_unary("/weft.identity.v1.IdentityService/CreateSession")
        began = time.monotonic()
        refused = Counter(
            _rule(future.exception()) for future in [call.future(b"", timeout=60) for _ in range(attempts)]
        )
        took_s = time.monotonic() - began
        read: Any = channel.unary_unary("/weft.catalog.v1.CatalogService/ListProducts")
        with pytest.raises(grpc.RpcError) as other:
            read(b"", timeout=60)

    limited, let_through = (8, f"rate_limit: {per_s} per 1s"), (14, "gateway: no instance of identity")
    assert {limited, let_through} == set(refused)
    # All that the bucket held, and no more than what was filled in meanwhile: once more for a fill that was just due.
    assert burst <= refused[let_through] <= burst + per_s * (math.floor(took_s) + 1)
    # What was let through found nobody at home; the address itself is shut out of nothing else.
    assert grpc.StatusCode.UNAUTHENTICATED is other.value.code()


def _rule(error: Any) -> tuple[int, str]:
    """Code of a refusal and the rule it names."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return status.code, info.metadata["rule"]
