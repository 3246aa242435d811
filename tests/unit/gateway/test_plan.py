"""What a change of the contracts changes, and whom it breaks: one planted change at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway import breaking, compiler, contract, plan, policy
from gateway.__main__ import main
from gateway.envoy.edge import Edge
from gateway.errors import ContractUnreadableError
from gateway.policy import PolicySet
from tests.unit.gateway.conftest import ROOT, TESTDATA
from weft.options.v1 import policy_pb2

NO_SHOP = 'errors: {code: "NOT_FOUND" reason: "SHOP_NOT_FOUND"}'
SHOP = (
    (TESTDATA / "shop.proto").read_text().replace("seconds: 0}\n", f"seconds: 0}}\n      {NO_SHOP}\n")
    + """
message Bought {
  option (weft.options.v1.event) = {
    routing_key: "shop.item.bought"
    ordering_key: "item"
    queues: "email"
    queues: "analytics"
  };
  string item = 1;
  string user = 2;
}
"""
)
FILE = "protos/weft/shop/v1/shop.proto"
#: Name of the change, what stands in the contract, what takes its place.
Edit = tuple[str, str, str]

QUEUES = 'queues: "analytics"\n'
LOOK = 'get: "/v1/{name=shops/*}"'
READ = '{scopes: "shop.read"};'

IN_TIME = "latency: {percent: 99 threshold: {seconds: 1}}"

HARMLESS: list[Edit] = [
    ("nothing", "", ""),
    ("a comment", "service ShopService", "// Sells.\nservice ShopService"),
    ("a scope beside the one that was enough", READ, '{scopes: "shop.read" scopes: "shop.admin"};'),
    ("a method that nobody needs a token for any more", READ, "{public: true};"),
    ("a higher limit", "requests: 50", "requests: 60"),
    (
        "the same rate, said for a minute",
        "requests: 50\n      per: {seconds: 1}",
        "requests: 3000\n      per: {seconds: 60}",
    ),
    (
        "no limit",
        "requests: 50\n      per: {seconds: 1}\n      burst: 100\n    }",
        "per {seconds: 1} requests: 99 burst: 100}",
    ),
    ("more time", "timeout: {seconds: 2}", "timeout: {seconds: 3}"),
    ("larger requests", "max_request_bytes: 4096", "max_request_bytes: 4097"),
    ("no size of requests", "      max_request_bytes: 4096\n", ""),
    ("a first size of requests", READ, '{scopes: "shop.read" max_request_bytes: 9};'),
    ("one attempt more", "max_attempts: 3", "max_attempts: 4"),
    ("earlier hedging", "nanos: 250000000", "nanos: 200000000"),
    (
        "a first hedging",
        READ,
        '{scopes: "shop.read" retry: {max_attempts: 2} hedging: {delay: {nanos: 20000000}}};',
    ),
    ("a call that matters more", READ, '{scopes: "shop.read" criticality: CRITICALITY_CRITICAL};'),
    ("what was not said before", READ, '{scopes: "shop.read" criticality: CRITICALITY_SHEDDABLE};'),
    ("a first objective", READ, '{scopes: "shop.read" slo: {availability: 99}};'),
    ("a stricter objective", "availability: 99.9", "availability: 99.99"),
    ("a faster objective", "threshold: {seconds: 1}", "threshold: {nanos: 500000000}"),
    ("a consistency that only says what holds", READ, '{scopes: "shop.read" consistency: {level: LEVEL_STRONG}};'),
    ("one more error", READ, '{scopes: "shop.read" errors: {code: "ABORTED" reason: "SHUT_DOWN"}};'),
    ("one error less", f"{NO_SHOP}\n", ""),
    ("one more queue", 'queues: "email"', 'queues: "email" queues: "audit"'),
    ("one more route", LOOK, f'{LOOK} additional_bindings: {{get: "/v1/{{name=malls/*}}"}}'),
]

BREAKING: list[tuple[str, str, str, str]] = [
    ("another scope", READ, '{scopes: "shop.admin"};', "tokens with no other scope are refused with 403"),
    ("one scope less", '      scopes: "shop.admin"\n', "", "took shop.admin before"),
    ("a token", "      public: true", '      scopes: "shop.enter"', "callers without a token are refused with 401"),
    ("a lower rate", "requests: 50", "requests: 49", "callers between the two are refused with 429"),
    ("a longer interval", "per: {seconds: 60}", "per: {seconds: 61}", "callers between the two are refused with 429"),
    ("a smaller burst", "burst: 100", "burst: 99", "allows bursts of 99, before 100"),
    ("another bucket", "burst: 100", "burst: 100 key: KEY_ADDRESS", "counts for each address, before for each subject"),
    ("less time", "timeout: {seconds: 2}", "timeout: {seconds: 1}", "gives calls 1 s, before 2 s: longer ones end"),
    (
        "an end of streams",
        "timeout: {seconds: 0}",
        "timeout: {seconds: 9}",
        "gives calls 9 s, before as long as they took",
    ),
    ("no second attempt", "      retry: {max_attempts: 3}\n", "", "is tried once, before up to 3 times"),
    ("one attempt less", "max_attempts: 3", "max_attempts: 2", "is tried up to 2 times, before up to 3 times"),
    (
        "no hedging",
        "      hedging: {\n        delay: {nanos: 250000000}\n      }\n",
        "",
        "is hedged never, before after 0.25 s: callers wait for an instance that hangs",
    ),
    ("later hedging", "nanos: 250000000", "nanos: 300000000", "is hedged after 0.3 s, before after 0.25 s"),
    ("smaller requests", "bytes: 4096", "bytes: 4095", "requests of up to 4095 bytes, before 4096: larger ones are"),
    ("a cache", READ, '{scopes: "shop.read" cache: {ttl: {seconds: 9}}};', "may answer what is 9 s old, before fresh"),
    (
        "an answer from anywhere",
        READ,
        '{scopes: "shop.read" consistency: {level: LEVEL_EVENTUAL}};',
        "Look promises eventual, before strong: callers read what is no longer true",
    ),
    (
        "an answer from some time ago",
        READ,
        '{scopes: "shop.read" consistency: {level: LEVEL_BOUNDED_STALENESS max_staleness: {seconds: 3}}};',
        "Look promises bounded staleness, 3 s, before strong",
    ),
    (
        "a call that matters less",
        "      criticality: CRITICALITY_CRITICAL\n",
        "      criticality: CRITICALITY_SHEDDABLE\n",
        "is sheddable, before critical: under overload its callers are refused earlier",
    ),
    ("fewer calls that end well", "availability: 99.9", "availability: 99", "promised 99.9 % without a fault and 99 %"),
    ("fewer calls in time", "percent: 99", "percent: 95", "promises less: callers counted on it"),
    ("more time to be in time", "threshold: {seconds: 1}", "threshold: {seconds: 5}", "promises less: callers counted"),
    ("no objective of latency", f" {IN_TIME}", "", "promises less: callers counted on it"),
    ("another code", '"NOT_FOUND"', '"ABORTED"', "fails with ABORTED for SHOP_NOT_FOUND, before with NOT_FOUND"),
    ("another path", LOOK, 'get: "/v1/{name=malls/*}"', "JSON callers of that path get 404"),
    ("another verb", 'post: "/v1/shops"', 'put: "/v1/shops"', "was POST /v1/shops"),
    ("another body", 'buy"\n      body: "*"', 'buy"\n      body: "request_id"', "JSON callers are misread"),
    ("another routing key", "shop.item.bought", "shop.item.sold", "queues bound to that starve"),
    ("another order", 'ordering_key: "item"', 'ordering_key: "user"', "events of one item may overtake another"),
    ("one queue less", '    queues: "email"\n', "", "no longer goes to the queue 'email'"),
]


@pytest.fixture(scope="module")
def shop(plant: Callable[[str], PolicySet]) -> PolicySet:
    return plant(SHOP)


def edited(old: str, new: str) -> str:
    assert old in SHOP
    return SHOP.replace(old, new, 1)


@pytest.mark.parametrize(("name", "old", "new"), HARMLESS, ids=[each[0] for each in HARMLESS])
def test_what_gives_callers_more_breaks_nobody(
    shop: PolicySet, plant: Callable[[str], PolicySet], name: str, old: str, new: str
) -> None:
    assert () == breaking.check(shop, plant(edited(old, new)))


@pytest.mark.parametrize(("name", "old", "new", "says"), BREAKING, ids=[each[0] for each in BREAKING])
def test_what_takes_from_callers_is_named_with_its_line_and_the_reason(
    shop: PolicySet, plant: Callable[[str], PolicySet], name: str, old: str, new: str, says: str
) -> None:
    after = edited(old, new)
    changed = next(n for n, (a, b) in enumerate(zip(SHOP.splitlines(), after.splitlines(), strict=False), 1) if a != b)

    found = breaking.check(shop, plant(after))

    assert found
    assert {FILE} == {violation.location.file for violation in found}
    assert all(abs(changed - violation.location.line) <= 8 for violation in found), (changed, found)
    assert [] == [violation.message for violation in found if says not in violation.message]
    assert all(violation.fix for violation in found)


def test_the_line_is_that_of_the_words_themselves(descriptors: bytes, policies: PolicySet) -> None:
    # buf knows the lines inside an option, protoc only that of the option.
    source = (ROOT / "protos/weft/orders/v1/events.proto").read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if "ordering_key" in text)
    files = FileDescriptorSet.FromString(descriptors)
    events = next(file for file in files.file if file.name == "weft/orders/v1/events.proto")
    events.message_type[0].options.Extensions[policy_pb2.event].ordering_key = "user"

    (found,) = breaking.check(policies, policy.resolve(contract.load(files.SerializeToString())))

    assert f"protos/weft/orders/v1/events.proto:{line}" == str(found.location)


def test_every_breaking_change_is_named_at_once(shop: PolicySet, plant: Callable[[str], PolicySet]) -> None:
    chosen = [
        each for each in BREAKING if each[0] in ("less time", "no second attempt", "another path", "one queue less")
    ]
    text = SHOP
    for _, old, new, _ in chosen:
        text = text.replace(old, new, 1)

    messages = "\n".join(violation.message for violation in breaking.check(shop, plant(text)))

    assert [] == [says for _, _, _, says in chosen if says not in messages]


def test_a_policy_that_moves_to_the_defaults_changes_nothing(
    shop: PolicySet, plant: Callable[[str], PolicySet]
) -> None:
    after = plant(edited(READ, '{scopes: "shop.read" timeout: {seconds: 2}};'))

    assert "nothing changes" == str(plan.make(shop, after))


@pytest.mark.parametrize(
    ("old", "new", "part", "before", "after"),
    [
        (READ, "{public: true};", "access", "any of shop.read", "public"),
        ("timeout: {seconds: 0}", "timeout: {seconds: 9}", "timeout", "no limit", "9 s"),
        ("bytes: 4096", "bytes: 99", "max_request_bytes", "4096 bytes", "99 bytes"),
        ("max_attempts: 3", "max_attempts: 2", "retry", "3 attempts", "2 attempts"),
        ("nanos: 250000000", "nanos: 500000000", "hedging", "after 0.25 s", "after 0.5 s"),
        ("CRITICALITY_CRITICAL", "CRITICALITY_DEFAULT", "criticality", "critical", "default"),
        (IN_TIME, "", "slo", "99.9 % without a fault 99 % within 1 s", "99.9 % without a fault"),
        ("ordering_key: \"item\"", "ordering_key: \"user\"", "ordering_key", "item", "user"),
        (NO_SHOP, NO_SHOP.replace("NOT_FOUND", "ABORTED", 1), "errors", "NOT_FOUND SHOP_NOT_FOUND", "ABORTED SHOP_"),
        ("shop.item.bought", "shop.item.sold", "routing_key", "shop.item.bought", "shop.item.sold"),
        (QUEUES, f"{QUEUES} retry_after: {{seconds: 1}}\n", "retry_after", "2 s, 2 s, 2 s, 2 s", "1 s"),
        (QUEUES, f"{QUEUES} max_deliveries: 2\n", "retry_after", "2 s, 2 s, 2 s, 2 s", "2 s"),
        (QUEUES, f"{QUEUES} retention: {{seconds: 7200}}\n", "retention", "for good", "7200 s"),
        ("requests: 5\n", "requests: 6\n", "rate_limit", "5 per 60 s for each address, bursts of 20", "6 per 60 s"),
    ],
)  # fmt: skip
def test_a_plan_says_what_was_and_what_will_be(
    shop: PolicySet, plant: Callable[[str], PolicySet], old: str, new: str, part: str, before: str, after: str
) -> None:
    (change,) = plan.make(shop, plant(edited(old, new))).changes
    found = next(each for each in change.differences if each.part == part)

    assert ("~", "~", before) == (change.sign, found.sign, " ".join(found.before))
    assert " ".join(found.after).startswith(after)
    assert found.location is not None
    assert FILE == found.location.file


def test_a_plan_reads_from_top_to_bottom(shop: PolicySet, plant: Callable[[str], PolicySet]) -> None:
    text = (
        edited(LOOK, 'get: "/v2/{name=shops/*}"').replace("rpc Enter", "rpc Visit").replace('    queues: "email"\n', "")
    )
    lines = str(plan.make(shop, plant(text.replace(READ, '{scopes: "shop.read" cache: {ttl: {seconds: 9}}};')))).split(
        "\n"
    )

    assert ["methods", "events"] == [line for line in lines if line and not line.startswith(" ") and "," not in line]
    assert [
        "  - weft.shop.v1.ShopService/Enter",
        "  ~ weft.shop.v1.ShopService/Look",
        "  + weft.shop.v1.ShopService/Visit",
        "  ~ weft.shop.v1.Bought",
    ] == [line for line in lines if line.startswith("  ") and not line.startswith("   ")]
    assert [f"- route GET /v1/{{name=shops/*}} {FILE}", f"+ route GET /v2/{{name=shops/*}} {FILE}"] == [
        " ".join(line.split()).rpartition(":")[0] for line in lines if "name=shops/*}   " in line
    ]
    assert any(line.split()[:4] == ["+", "cache", "for", "9"] for line in lines)
    assert any(line.split()[:3] == ["-", "queue", "email"] for line in lines)
    assert "1 method added, 1 method removed, 1 method changed, 1 event changed" == lines[-1]


def test_the_released_contracts_are_read_without_source_info(policies: PolicySet) -> None:
    released = policy.resolve(contract.load((ROOT / "protos/baseline.binpb").read_bytes()))

    assert {1} == {location.line for rpc in released.rpcs for location in rpc.places.values()}
    assert [] == [change for change in plan.make(released, policies).changes if change.sign == "-"]


def test_a_bundle_gives_back_the_contracts_it_was_compiled_from(descriptors: bytes, tmp_path: Path) -> None:
    compiler.write(compiler.compile_contracts(descriptors, Edge()), tmp_path / "bundle")

    found = compiler.read_descriptors(tmp_path / "bundle")

    assert "nothing changes" == str(compiler.compare(found, descriptors))


@pytest.mark.parametrize("manifest", [b"{", b"[]", b'{"resources": []}', b'{"resources": [{"name": 1}]}'])
def test_a_directory_that_is_no_bundle_is_refused(tmp_path: Path, manifest: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(manifest)

    with pytest.raises(ContractUnreadableError, match="not a bundle"):
        compiler.read_descriptors(tmp_path)


def test_the_commands_print_what_machines_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    baseline = str(ROOT / "protos/baseline.binpb")

    assert 0 == main(["plan", "--against", baseline, "--json"])
    assert {"summary", "changes"} == set(json.loads(capsys.readouterr().out))
    assert 0 == main(["check", "--against", baseline, "--json"])
    assert {"violations": []} == json.loads(capsys.readouterr().out)
    assert 0 == main(["compile", "--out", str(tmp_path / "bundle")])
    assert 0 == main(["descriptors", str(tmp_path / "bundle"), "--out", str(tmp_path / "set.binpb")])
    assert 0 == main(["plan", "--against", str(tmp_path / "set.binpb")])
    assert "nothing changes" == capsys.readouterr().out.splitlines()[-1]
    assert 2 == main(["plan", "--against", str(tmp_path / "none")])
