"""Each rule with one planted violation: it is found on its line, and nothing else is."""

from collections.abc import Callable

import pytest

from gateway import rules
from gateway.policy import PolicySet

HEAD = """syntax = "proto3";
package weft.shop.v1;
import "google/api/annotations.proto";
import "google/protobuf/empty.proto";
import "weft/options/v1/policy.proto";
message Request { string name = 1; repeated string tags = 2; int64 size = 3; }
message Keyed { string request_id = 1; }
"""
SOUND = 'timeout: {seconds: 1} scopes: "shop.read"'
POST = 'option (google.api.http) = {post: "/v1/shops" body: "*"};'
GET = 'option idempotency_level = NO_SIDE_EFFECTS; option (google.api.http) = {get: "/v1/shops"};'
LIMIT = "rate_limit: {requests: 20 per: {seconds: 1} burst: 40}"
HEDGING = "hedging: {delay: {nanos: 250000000}} retry: {max_attempts: 2}"
IN_TIME = "threshold: {nanos: 500000000}"
CACHE = 'cache: {ttl: {seconds: 9} key: "{name}"}'
TAGGED = 'tags: "item"'
SOLD = 'events: "weft.shop.v1.Sold"'
FORGETS = 'invalidates: {tag: "item" key: "{name}"}'
KEYS = 'routing_key: "shop.item.bought" ordering_key: "shop"'
Plant = Callable[[str], PolicySet]


def kept(key: str, more: str = "") -> str:
    return f'cache: {{ttl: {{seconds: 9}} key: "{key}" {more}}}'


def rpc(policy: str, *, options: str = POST, request: str = "Request", response: str = "google.protobuf.Empty") -> str:
    said = f"option (weft.options.v1.policy) = {{{policy}}};" if policy else ""
    return f"{HEAD}service Shop {{\n  rpc Buy({request}) returns ({response}) {{\n    {options}\n    {said}\n  }}\n}}\n"


def two(write: str, read: str) -> str:
    """A method that changes something, on the usual lines, and one that reads it."""
    other = (
        rpc(read, options=GET.replace("/v1/shops", "/v1/{name=shops/*}")).split("Shop {\n")[1].replace("Buy", "Look")
    )
    return rpc(write).removesuffix("}\n") + other


def event(policy: str, more: str = "") -> str:
    return f"{HEAD}message Bought {{\n  option (weft.options.v1.event) = {{{policy}}};\n  string shop = 1;\n}}\n{more}"


def counted(other: str) -> str:
    """An event with a position, on the usual lines, and another one of the same ordering key."""
    bought = event(f'{KEYS} position: "count"').replace("string shop = 1;", "string shop = 1; int64 count = 2;")
    option = f"  option (weft.options.v1.event) = {{{other}}};\n"
    return f"{bought}message Sold {{\n{option}  string shop = 1;\n  int64 count = 2;\n}}\n"


RPCS = {
    "no access": (rpc("timeout: {seconds: 1}"), 9, "does not say who may call it"),
    "public and scopes": (rpc(f"{SOUND} public: true {LIMIT}"), 11, "is public and names scopes"),
    "scope form": (rpc('timeout: {seconds: 1} scopes: "Shop.Read"'), 11, "names the scope 'Shop.Read'"),
    "scope twice": (rpc(f'{SOUND} scopes: "shop.read"'), 11, "names a scope twice"),
    "no binding": (rpc(SOUND, options=""), 9, "has no HTTP binding"),
    "streamed body": (rpc(SOUND, request="stream Request"), 10, "streams its requests"),
    "get with body": (rpc(SOUND, options=GET.replace('"};', '" body: "*"};')), 10, "has a GET with a body"),
    "get with effects": (rpc(SOUND, options=GET.split("; ")[1]), 10, "is bound to GET"),
    "custom verb": (
        rpc(SOUND, options=POST.replace('post: "', 'custom: {kind: "PAY" path: "').replace('s" b', 's"} b')),
        10,
        "is bound to PAY",
    ),
    "unversioned": (rpc(SOUND, options=POST.replace("/v1", "")), 10, "is bound to the path '/shops'"),
    "body field": (rpc(SOUND, options=POST.replace('"*"', '"shop"')), 10, "takes its body from 'shop'"),
    "path variable": (rpc(SOUND, options=POST.replace("/shops", "/{shop=shops/*}")), 10, "the path variable 'shop'"),
    "one attempt": (rpc(f"{SOUND} retry: {{max_attempts: 1}}", request="Keyed"), 11, "asks for 1 attempts"),
    "six attempts": (rpc(f"{SOUND} retry: {{max_attempts: 6}}", request="Keyed"), 11, "asks for 6 attempts"),
    "unsafe retry": (rpc(f"{SOUND} retry: {{max_attempts: 3}}"), 11, "is retried but not safe to repeat"),
    "stream retry": (
        rpc(f"{SOUND} retry: {{max_attempts: 3}}", request="Keyed", response="stream Keyed"),
        11,
        "is a stream and retried",
    ),
    "weak write": (
        rpc(f"{SOUND} consistency: {{level: LEVEL_EVENTUAL}}"),
        11,
        "has side effects and is not LEVEL_STRONG",
    ),
    "weak stream": (
        rpc(f"{SOUND} consistency: {{level: LEVEL_EVENTUAL}}", options=GET, response="stream Keyed"),
        11,
        "is a stream and is not LEVEL_STRONG",
    ),
    "strong and cached": (
        rpc(f"{SOUND} {CACHE} consistency: {{level: LEVEL_STRONG}}", options=GET),
        11,
        "promises the leader's answer and is cached",
    ),
    "a bound of nothing": (
        rpc(f"{SOUND} consistency: {{level: LEVEL_EVENTUAL max_staleness: {{seconds: 9}}}}", options=GET),
        11,
        "has a `max_staleness` and is not LEVEL_BOUNDED_STALENESS",
    ),
    "no bound": (rpc(f"{SOUND} consistency: {{level: LEVEL_BOUNDED_STALENESS}}", options=GET), 11, "may be 0 s old"),
    "too tight a bound": (
        rpc(
            f"{SOUND} consistency: {{level: LEVEL_BOUNDED_STALENESS max_staleness: {{nanos: 900000000}}}}", options=GET
        ),
        11,
        "may be 0.9 s old",
    ),
    "hedged effects": (rpc(f"{SOUND} {HEDGING}", request="Keyed"), 11, "is hedged but has side effects"),
    "hedged stream": (
        rpc(f"{SOUND} {HEDGING.split('retry')[0]}", options="", response="stream Keyed"),
        11,
        "is a stream and hedged",
    ),
    "hedged once": (rpc(f"{SOUND} {HEDGING.split('retry')[0]}", options=GET), 11, "has no second attempt"),
    "hedged at once": (rpc(f"{SOUND} {HEDGING.replace('25', '0')}", options=GET), 11, "is hedged after 0 s"),
    "hedged too late": (
        rpc(f"{SOUND} {HEDGING.replace('nanos: 25', 'seconds: 1 nanos: 0')}", options=GET),
        11,
        "is hedged after 1 s",
    ),
    "key without use": (rpc(SOUND, options=GET, request="Keyed"), 10, "takes a request_id"),
    "cached effects": (rpc(f"{SOUND} {CACHE}"), 11, "is cached but has side effects"),
    "cache ttl": (rpc(f"{SOUND} {CACHE.replace('9', '-9')}", options=GET), 11, "is cached for -9 s"),
    "cached stream": (
        rpc(f"{SOUND} {CACHE}", options=GET.split("; ")[0] + ";", response="stream Keyed"),
        11,
        "is a stream and cached",
    ),
    "public and for each subject": (
        rpc(f"timeout: {{seconds: 1}} public: true {LIMIT} {CACHE}", options=GET),
        11,
        "is public and cached for each subject",
    ),
    "cache without a key": (rpc(f"{SOUND} cache: {{ttl: {{seconds: 9}}}}", options=GET), 11, "the cache key ''"),
    "cache key of nothing": (rpc(f"{SOUND} {kept('shops')}", options=GET), 11, "which is the same for every request"),
    "cache key form": (rpc(f"{SOUND} {kept('{name')}", options=GET), 11, "has the cache key '{name'"),
    "cache key field": (rpc(f"{SOUND} {kept('{shop}')}", options=GET), 11, "and shop is no single string field"),
    "cache key number": (rpc(f"{SOUND} {kept('{size}')}", options=GET), 11, "and size is no single string field"),
    "cache key list": (rpc(f"{SOUND} {kept('{tags}')}", options=GET), 11, "and tags is no single string field"),
    "cache key path": (rpc(f"{SOUND} {kept('{name.x}')}", options=GET), 11, "and name.x is no single string field"),
    "long memory of nothing": (
        rpc(f"{SOUND} {kept('{name}', 'negative_ttl: {seconds: 10}')}", options=GET),
        11,
        "keeps NOT_FOUND for 10 s",
    ),
    "tag form": (rpc(f"{SOUND} {kept('{name}', TAGGED.replace('item', 'Item'))}", options=GET), 11, "cache tag 'Item'"),
    "tag without an end": (rpc(f"{SOUND} {kept('{name}', TAGGED)}", options=GET), 11, "nobody makes what"),
    "outdated by nothing": (
        rpc(f"{SOUND} {kept('{name}', SOLD)}", options=GET),
        11,
        "is outdated by 'weft.shop.v1.Sold', which is no event",
    ),
    "tag without a cache": (rpc(f"{SOUND} {FORGETS}"), 11, "invalidates 'item', and no `cache` has that tag"),
    "invalidating read": (
        rpc(f"{SOUND} {FORGETS} {kept('{name}', TAGGED)}", options=GET),
        11,
        "has no side effects and invalidates",
    ),
    "invalidation field": (
        two(f"{SOUND} {FORGETS.replace('{name}', '{shop}')}", f"{SOUND} {kept('{name}', TAGGED)}"),
        11,
        "has the invalidates key '{shop}', and shop is no single string field",
    ),
    "streaming tool": (
        rpc('timeout: {} scopes: "shop.read" mcp: {}', options="", response="stream Request"),
        11,
        "is a stream and a tool",
    ),
    "public unlimited": (rpc("timeout: {seconds: 1} public: true"), 9, "is public and has no rate limit"),
    "public by subject": (
        rpc(f"timeout: {{seconds: 1}} public: true {LIMIT.replace('burst', 'key: KEY_SUBJECT burst')}"),
        11,
        "is public but limited by subject",
    ),
    "no requests": (rpc(f"{SOUND} {LIMIT.replace('20', '0')}"), 11, "allows 0 requests"),
    "no interval": (rpc(f"{SOUND} {LIMIT.replace('per: {seconds: 1}', '')}"), 11, "is limited per 0 s"),
    "negative interval": (rpc(f"{SOUND} {LIMIT.replace('seconds: 1', 'seconds: -1')}"), 11, "is limited per -1 s"),
    "burst below requests": (rpc(f"{SOUND} {LIMIT.replace('40', '18')}"), 11, "has a burst of 18"),
    "indivisible": (rpc(f"{SOUND} {LIMIT.replace('40', '15').replace('20', '2')}"), 11, "has a bucket of 15"),
    "no timeout": (rpc('scopes: "shop.read"'), 9, "has no timeout"),
    "zero timeout": (rpc('scopes: "shop.read" timeout: {}'), 11, "has a timeout of 0 s"),
    "negative timeout": (rpc('scopes: "shop.read" timeout: {seconds: -1}'), 11, "has a negative timeout"),
    "endless timeout": (rpc('scopes: "shop.read" timeout: {seconds: 315576000000}'), 11, "has a timeout of 1e+09 s"),
    "no bytes": (rpc(f"{SOUND} max_request_bytes: 0"), 11, "takes requests of up to 0 bytes"),
    "too many bytes": (rpc(f"{SOUND} max_request_bytes: 229377"), 11, "takes requests of up to 229377 bytes"),
    "bytes of a stream": (
        rpc(f"{SOUND} max_request_bytes: 9", options="", request="stream Request"),
        11,
        "streams its requests and has a max_request_bytes",
    ),
    "error code": (rpc(SOUND + ' errors: {code: "GONE" reason: "SHUT_DOWN"}'), 11, "with the code 'GONE'"),
    "error without failure": (rpc(SOUND + ' errors: {code: "OK" reason: "SHUT_DOWN"}'), 11, "with the code 'OK'"),
    "error reason": (rpc(SOUND + ' errors: {code: "ABORTED" reason: "shutDown"}'), 11, "with the reason 'shutDown'"),
    "long reason": (rpc(f'{SOUND} errors: {{code: "ABORTED" reason: "{"A" * 64}"}}'), 11, "with the reason 'AAA"),
    "error twice": (
        rpc(f'{SOUND} errors: {{code: "ABORTED" reason: "SHUT"}} errors: {{code: "NOT_FOUND" reason: "SHUT"}}'),
        11,
        "declares the reason 'SHUT' twice",
    ),
    "empty slo": (rpc(f"{SOUND} slo: {{}}"), 11, "has an slo without an objective"),
    "slo too low": (rpc(f"{SOUND} slo: {{availability: 94.9}}"), 11, "has an availability of 94.9 %"),
    "slo of all": (rpc(f"{SOUND} slo: {{availability: 100}}"), 11, "has an availability of 100 %"),
    "slo of a share": (rpc(f"{SOUND} slo: {{latency: {{percent: 0.99 {IN_TIME}}}}}"), 11, "wants 0.99 % of its calls"),
    "odd threshold": (
        rpc(f"{SOUND} slo: {{latency: {{percent: 99 threshold: {{nanos: 300000000}}}}}}"),
        11,
        "has a threshold of 300 ms, by which no gateway counts",
    ),
    "late threshold": (
        rpc(f"{SOUND} slo: {{latency: {{percent: 99 threshold: {{seconds: 1}}}}}}"),
        11,
        "has a threshold of 1000 ms, no less than its timeout",
    ),
    "slow stream": (
        rpc(f"{SOUND} slo: {{latency: {{percent: 99 {IN_TIME}}}}}", response="stream Keyed"),
        11,
        "is a stream and has an objective of latency",
    ),
    "package": (rpc(SOUND).replace("weft.shop.v1", "weft.shop"), 9, "does not tell which mesh service serves it"),
    "same path": (
        rpc(SOUND).removesuffix("}\n") + rpc(SOUND).split("Shop {\n")[1].replace("Buy", "Sell"),
        14,
        "is bound to POST /v1/shops, as weft.shop.v1.Shop/Buy is",
    ),
}
SOLD_KEYS = KEYS.replace("bought", "sold")
EVENTS = {
    "routing key": (event(KEYS.replace("shop.item", "item")), 9, "has the routing key 'item.bought'"),
    "foreign key": (event(KEYS.replace("shop.item", "orders.item")), 9, "has the routing key 'orders.item.bought'"),
    "ordering field": (event(KEYS.replace('"shop"', '"order"')), 9, "is ordered by 'order'"),
    "no ordering field": (event('routing_key: "shop.item.bought"'), 9, "is ordered by ''"),
    "unknown queue": (event(f'{KEYS} queues: "mail"'), 9, "goes to the queue 'mail'"),
    "audit queue": (event(f'{KEYS} queues: "audit"'), 9, "goes to the queue 'audit'"),
    "no pause": (event(f"{KEYS} retry_after: {{seconds: 0}}"), 9, "comes again after 0 s"),
    "a pause without end": (event(f"{KEYS} retry_after: {{seconds: 3601}}"), 9, "comes again after 3601 s"),
    "a pause no queue has": (event(f"{KEYS} retry_after: {{seconds: 1 nanos: 1}}"), 9, "comes again after 1 s"),
    "too many pauses": (
        event(KEYS + "".join(f" retry_after: {{seconds: {n}}}" for n in range(1, 10))),
        9,
        "waits 9 different times",
    ),
    "pauses nobody waits": (
        event(f"{KEYS} retry_after: {{seconds: 1}} retry_after: {{seconds: 2}} max_deliveries: 2"),
        9,
        "is delivered 2 times and has 2 pauses",
    ),
    "delivered for ever": (event(f"{KEYS} max_deliveries: 21"), 9, "is delivered 21 times"),
    "forgotten": (event(f"{KEYS} retention: {{seconds: 3599}}"), 9, "is kept for 3599 s"),
    "queue twice": (event(f'{KEYS} queues: "email" queues: "email"'), 9, "names a queue twice"),
    "position": (event(f'{KEYS} position: "shop"'), 9, "its position in 'shop', which is not a single int64"),
    "position nowhere": (event(f'{KEYS} position: "count"'), 9, "has its position in 'count'"),
    "uncounted neighbour": (
        counted(KEYS.replace("bought", "sold")),
        13,
        "like weft.shop.v1.Bought, and has no position",
    ),
    "neighbour elsewhere": (
        counted(f'{SOLD_KEYS} position: "count" queues: "email"'),
        13,
        "goes to other queues than weft.shop.v1.Bought",
    ),
    "shared key": (
        event(KEYS, f"message Sold {{\n  option (weft.options.v1.event) = {{{KEYS}}};\n  string shop = 1;\n}}\n"),
        13,
        "has the routing key 'shop.item.bought' of weft.shop.v1.Bought",
    ),
}


@pytest.mark.parametrize(("text", "line", "says"), list((RPCS | EVENTS).values()), ids=list(RPCS | EVENTS))
def test_a_planted_violation_is_named_with_its_line(plant: Plant, text: str, line: int, says: str) -> None:
    found = rules.check(plant(text))

    assert [f"protos/weft/shop/v1/shop.proto:{line}"] == [str(violation.location) for violation in found]
    assert says in found[0].message
    assert found[0].fix


@pytest.mark.parametrize(
    "text",
    [
        rpc(SOUND),
        rpc(f"{SOUND} {LIMIT}", options=GET),
        rpc(f"{SOUND} max_request_bytes: 1"),
        rpc(f"{SOUND} {HEDGING}", options=GET),
        rpc(f"{SOUND} max_request_bytes: 229376"),
        rpc(f"{SOUND} slo: {{availability: 99.999 latency: {{percent: 80 {IN_TIME}}}}}"),
        event(KEYS),
    ],
)
def test_a_sound_contract_has_no_violation(plant: Plant, text: str) -> None:
    assert () == rules.check(plant(text))


def test_all_violations_are_reported_together(plant: Plant) -> None:
    found = rules.check(plant(rpc("retry: {max_attempts: 9}", options="")))

    assert 5 == len(found)
    assert sorted(found) == list(found)


def test_a_violation_in_the_defaults_points_at_the_defaults(plant: Plant) -> None:
    text = rpc('scopes: "shop.read"').replace(
        "service Shop {", "service Shop {\n  option (weft.options.v1.defaults) = {timeout: {seconds: 900}};"
    )

    assert ["protos/weft/shop/v1/shop.proto:9"] == [str(violation.location) for violation in rules.check(plant(text))]


def test_the_real_contracts_keep_every_rule(policies: PolicySet) -> None:
    assert () == rules.check(policies)
