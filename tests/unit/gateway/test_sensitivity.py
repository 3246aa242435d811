"""Marks of what must not be printed: where one is missing or cannot be obeyed, nothing is compiled."""

from collections.abc import Callable

import pytest

from gateway import breaking, plan, rules
from gateway.policy import PolicySet

Plant = Callable[[str], PolicySet]

HEAD = """syntax = "proto3";
package weft.shop.v1;
import "google/api/annotations.proto";
import "google/protobuf/empty.proto";
import "weft/options/v1/policy.proto";
"""
SECRET = "[(weft.options.v1.sensitive) = SENSITIVITY_SECRET]"
PERSONAL = "[(weft.options.v1.sensitive) = SENSITIVITY_PERSONAL]"
NONE = "[(weft.options.v1.sensitive) = SENSITIVITY_NONE]"


def message(*fields: str, name: str = "Request") -> str:
    """A message whose first field stands on line 7 if it is the first."""
    return "\n".join([f"message {name} {{", *(f"  {field};" for field in fields), "}\n"])


def method(binding: str, *, more: str = "", request: str = "Request", response: str = "google.protobuf.Empty") -> str:
    return f"""service Shop {{
  rpc Buy({request}) returns ({response}) {{
    option (google.api.http) = {{{binding}}};
    option (weft.options.v1.policy) = {{timeout: {{seconds: 1}} scopes: "shop.read" {more}}};
    option idempotency_level = NO_SIDE_EFFECTS;
  }}
}}
"""


def event(*fields: str, key: str = "shop") -> str:
    option = f'option (weft.options.v1.event) = {{routing_key: "shop.item.bought" ordering_key: "{key}"}}'
    return message(option, *fields, name="Bought")


NAMED = {
    f"{kind} {name}": message(f"{kind} {name} = 1")
    for kind, name in (
        ("string", "password"),
        ("bytes", "client_secret"),
        ("string", "refresh_token"),
        ("repeated string", "emails"),
        ("string", "work_email"),
        ("int64", "phone"),
        ("google.protobuf.Empty", "credentials"),
        ("map<string, string>", "tokens"),
    )
}


@pytest.mark.parametrize("text", list(NAMED.values()), ids=list(NAMED))
def test_a_field_whose_name_tells_does_not_build_without_a_mark(plant: Plant, text: str) -> None:
    (found,) = rules.check(plant(HEAD + text))

    assert "protos/weft/shop/v1/shop.proto:7" == str(found.location)
    assert "nothing says whether it may be printed" in found.message
    assert "SENSITIVITY_SECRET" in found.fix


def test_a_nested_message_is_looked_into(plant: Plant) -> None:
    (found,) = rules.check(plant(HEAD + message("message Inner { string password = 1; }")))

    assert "weft.shop.v1.Request.Inner.password" in found.message
    assert "protos/weft/shop/v1/shop.proto:7" == str(found.location)


@pytest.mark.parametrize(
    "field",
    [
        f"string password = 1 {SECRET}",
        f"repeated string emails = 1 {PERSONAL}",
        f"string bus_token = 1 {NONE}",
        "bool email = 1",
        "string page_token = 1",
        "string next_page_token = 1",
        "string request_id = 1",
        "string display_name = 1",
    ],
)
def test_a_marked_field_builds_and_so_does_one_that_tells_nothing(plant: Plant, field: str) -> None:
    assert () == rules.check(plant(HEAD + message(field)))


POST, GET = 'post: "/v1/shops" body: "*"', 'get: "/v1/shops"'
INNER = message(f"string code = 1 {SECRET}", "string name = 2", name="Inner")
MISPLACED = {
    "a map": (message(f"map<string, string> notes = 1 {PERSONAL}"), 7, "errors name the keys of a map"),
    "in a query": (message(f"string code = 1 {SECRET}") + method(GET), 11, "takes code, which is secret, in the URL"),
    "in a path": (
        message(f"string code = 1 {PERSONAL}") + method('post: "/v1/{code=shops/*}" body: "*"'),
        11,
        "takes code, which is personal, in the URL of /v1/{code=shops/*}",
    ),
    "beside the body": (
        message("string name = 1", f"string code = 2 {SECRET}") + method('post: "/v1/shops" body: "name"'),
        12,
        "takes code, which is secret",
    ),
    "nested in a query": (INNER + message("Inner inner = 1") + method(GET), 15, "takes inner.code, which is secret"),
    "in a path and in the body": (
        INNER + message("Inner inner = 1") + method('post: "/v1/{inner.code=shops/*}" body: "inner"'),
        15,
        "takes inner.code, which is secret",
    ),
    "in a cache": (
        INNER
        + message("repeated Inner inner = 1", name="Answer")
        + message("string name = 1")
        + method(GET, more='cache: {ttl: {seconds: 9} key: "{name}"}', response="Answer"),
        19,
        "is cached and answers inner.code, which is secret",
    ),
    "in an event": (event("string shop = 1", f"string code = 2 {SECRET}"), 9, "carries code, which is secret"),
    "deep in an event": (
        INNER + event("string shop = 1", "repeated Inner inner = 2"),
        7,
        "carries inner.code, which is secret",
    ),
    "the order of events": (event(f"string shop = 1 {PERSONAL}"), 7, "is ordered by 'shop', which is personal"),
}


@pytest.mark.parametrize(("text", "line", "says"), list(MISPLACED.values()), ids=list(MISPLACED))
def test_a_marked_field_may_not_be_where_nothing_hides_it(plant: Plant, text: str, line: int, says: str) -> None:
    (found,) = rules.check(plant(HEAD + text))

    assert f"protos/weft/shop/v1/shop.proto:{line}" == str(found.location)
    assert says in found.message
    assert found.fix


@pytest.mark.parametrize(
    "text",
    [
        message(f"string code = 1 {SECRET}", "string name = 2") + method('post: "/v1/{name=shops/*}" body: "*"'),
        INNER + message("Inner inner = 1", "string name = 2") + method('post: "/v1/shops" body: "inner"'),
        INNER + message("repeated Inner inner = 1") + method(GET.replace("shops", "lists")),
        message(f"string code = 1 {PERSONAL}", "Request itself = 2") + method(POST),
        message(f"string code = 1 {PERSONAL}", name="Answer")
        + message("string name = 1")
        + method(GET, more='cache: {ttl: {seconds: 9} key: "{name}"}', response="Answer"),
        event("string shop = 1", f"string buyer = 2 {PERSONAL}"),
    ],
)
def test_a_marked_field_may_be_in_bodies_answers_and_if_personal_in_events(plant: Plant, text: str) -> None:
    assert () == rules.check(plant(HEAD + text))


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (SECRET, "", "is not sensitive, before secret: logs, spans and the audit log show it"),
        (PERSONAL, "", "is not sensitive, before personal"),
        (PERSONAL, NONE, "is not sensitive, before personal"),
        (SECRET, PERSONAL, "is personal, before secret: it may be stored"),
    ],
)
def test_a_weaker_mark_breaks_those_whom_the_field_is_about(plant: Plant, before: str, after: str, says: str) -> None:
    old, new = (plant(HEAD + message("string name = 1", f"string code = 2 {mark}")) for mark in (before, after))

    (found,) = breaking.check(old, new)

    assert "protos/weft/shop/v1/shop.proto:8" == str(found.location)
    assert says in found.message
    assert () == breaking.check(new, old)


def test_a_plan_names_marks_that_come_and_go(plant: Plant) -> None:
    old, new = (
        plant(HEAD + message(f"string a = 1 {a}", f"string b = 2 {b}")) for a, b in (("", SECRET), (SECRET, ""))
    )

    said = str(plan.make(old, new))

    assert "marks\n  + weft.shop.v1.Request.a\n      + sensitive     secret\n  - weft.shop.v1.Request.b" in said
    assert "1 mark added, 1 mark removed" in said
    assert "nothing changes" == str(plan.make(new, new))
