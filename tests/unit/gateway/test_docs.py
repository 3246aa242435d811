"""The reference site: whole, linked, escaped, the same every time, and its examples are ones the contracts accept."""

import json
import re
import shlex
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import protovalidate
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from gateway import __main__ as program
from gateway import compiler, contract, policy
from gateway.contract import Method
from gateway.docs import calls, pattern, refusals, site
from gateway.docs.samples import Samples
from gateway.envoy import names
from gateway.envoy.filters import strict_json
from gateway.policy import PolicySet

from .conftest import ROOT, TESTDATA
from .script_run import EnvoySays, run_script

SOURCES = "../../"


@pytest.fixture(scope="module")
def pages(descriptors: bytes) -> Mapping[str, str]:
    return compiler.document(descriptors, sources=SOURCES)


class Page(HTMLParser):
    """Anchors, links and tags of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.tags.add(tag)
        if said.get("id"):
            self.anchors.append(str(said["id"]))
        if tag == "a":
            self.links.append(str(said["href"]))


def counter(planted: Callable[[str], bytes]) -> bytes:
    return planted((TESTDATA / "counter.proto").read_text())


def methods_of(descriptors: bytes) -> list[Method]:
    return [method for service in contract.load(descriptors).services for method in service.methods]


def pool_of(descriptors: bytes) -> DescriptorPool:
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString(descriptors).file:
        pool.Add(file)
    return pool


def test_the_page_of_a_small_contract_is_this(
    planted: Callable[[str], bytes], golden: Callable[[str, str], None]
) -> None:
    pages = compiler.document(counter(planted), sources=SOURCES)

    golden("counter.html", pages["weft.shop.v1.CounterService.html"])
    golden("counter_events.html", pages[site.EVENTS])


def test_every_service_method_and_event_has_its_place(pages: Mapping[str, str], policies: PolicySet) -> None:
    found = {name: Page(text).anchors for name, text in pages.items()}

    assert {site.INDEX, site.EVENTS, site.PROMISES, *(site.page_of(name) for name in policies.services)} == set(found)
    for rpc in policies.rpcs:
        assert rpc.method.name in found[site.page_of(rpc.method.service)]
    assert {event.full_name for event in policies.events} <= set(found[site.EVENTS])


def test_every_link_leads_somewhere(pages: Mapping[str, str]) -> None:
    anchors = {name: Page(text).anchors for name, text in pages.items()}
    for name, text in pages.items():
        assert len(set(anchors[name])) == len(anchors[name]), name
        for link in Page(text).links:
            page, _, anchor = link.partition("#")
            if page.startswith(SOURCES):
                lines = (ROOT / page.removeprefix(SOURCES)).read_text().splitlines()
                assert 1 <= int(anchor.removeprefix("L")) <= len(lines), link
            else:
                assert not anchor or anchor in anchors[page or name], f"{name}: {link}"


def test_the_pages_need_no_script_and_fetch_nothing(pages: Mapping[str, str]) -> None:
    for text in pages.values():
        assert {"script", "link", "img", "iframe"}.isdisjoint(Page(text).tags)


def test_the_same_contracts_give_the_same_pages(descriptors: bytes, pages: Mapping[str, str]) -> None:
    assert pages == compiler.document(descriptors, sources=SOURCES)


def test_what_a_comment_says_never_becomes_markup(planted: Callable[[str], bytes]) -> None:
    page = compiler.document(counter(planted), sources=SOURCES)["weft.shop.v1.CounterService.html"]

    assert "b" not in Page(page).tags
    assert "&lt;b&gt;bread&lt;/b&gt; &amp; &#34;salt&#34;" in page


def test_every_method_has_an_example_that_keeps_its_rules(descriptors: bytes) -> None:
    samples = Samples(pool_of(descriptors))
    for method in methods_of(descriptors):
        request = samples.request(method)
        assert request is not None, method.full_name
        assert [] == protovalidate.collect_violations(request), method.full_name


def test_an_example_is_made_for_intricate_rules_and_unfitting_ones_are_never_printed(
    planted: Callable[[str], bytes],
) -> None:
    text = (TESTDATA / "counter.proto").read_text()
    sell = Samples(pool_of(planted(text))).request(methods_of(planted(text))[0])
    assert sell is not None
    assert "things/example-012" == json_format.MessageToDict(sell)["thing"]

    impossible = text.replace('"this.way == 1 || this.change == 0"', '"false"')
    assert Samples(pool_of(planted(impossible))).request(methods_of(planted(impossible))[0]) is None
    page = compiler.document(planted(impossible), sources=SOURCES)["weft.shop.v1.CounterService.html"]
    assert "too intricate" in page


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len(set(names)) == len(names), names
    return dict(pairs)


def test_the_commands_carry_the_whole_request_in_every_protocol(descriptors: bytes, policies: PolicySet) -> None:
    pool = pool_of(descriptors)
    samples = Samples(pool)
    for rpc in policies.rpcs:
        request = samples.request(rpc.method)
        assert request is not None
        kind = GetMessageClass(pool.FindMessageTypeByName(rpc.method.request))
        found = calls.examples(rpc, request, "weft/x.proto")
        assert ["gRPC, buf", "gRPC, grpcurl", "gRPC-web, buf"] == [example.protocol for example in found[:3]]
        for example in found[:3]:
            words = shlex.split(example.command.replace("\\\n", " "))
            sent = json.loads(words[words.index("-d") + 1], object_pairs_hook=unique)
            assert request == json_format.ParseDict(sent, kind())
        assert len(found) - 3 == len(rpc.method.bindings)
        for binding, example in zip(rpc.method.bindings, found[3:], strict=True):
            assert request == sent_by_curl(example.command, binding, kind())


def sent_by_curl(command: str, binding: contract.Binding, request: Any) -> Any:
    """What a JSON command sends, put together as the transcoder does."""
    words = shlex.split(command.replace("\\\n", " "))
    url = urlsplit(words[-1])
    if "-d" in words:
        body = json.loads(words[words.index("-d") + 1], object_pairs_hook=unique)
        json_format.ParseDict(body, request if binding.body == "*" else getattr(request, binding.body))
    names = re.findall(r"\{([^}=]+)", binding.template)
    shape = re.sub(r"\\\{[^}=]+=?([^}]*)\\\}", lambda each: f"({each[1] or '[^/]+'})", re.escape(binding.template))
    taken = re.fullmatch(shape.replace(r"\*", "[^/]+"), unquote(url.path))
    assert taken, (url.path, shape)
    for name, value in (*zip(names, taken.groups(), strict=True), *parse_qsl(url.query)):
        *holders, leaf = name.split(".")
        target = request
        for holder in holders:
            target = getattr(target, holder)
        if target.DESCRIPTOR.fields_by_name[leaf].is_repeated:
            getattr(target, leaf).append(value)
        else:
            setattr(target, leaf, type(getattr(target, leaf))(value))
    return request


def test_the_gateways_own_strict_check_takes_every_json_body(
    descriptors: bytes, policies: PolicySet, envoy_says: EnvoySays
) -> None:
    samples, cases = Samples(pool_of(descriptors)), []
    for rpc in policies.rpcs:
        request = samples.request(rpc.method)
        assert request is not None
        for binding, example in zip(rpc.method.bindings, calls.examples(rpc, request, "x")[3:], strict=True):
            if binding.body:
                route = strict_json.for_route(rpc, binding)
                headers = {"content-type": "application/json"}
                cases.append({"name": rpc.method.name, "route": route, "headers": headers, "body": example.body})
    assert cases
    report = run_script(envoy_says, strict_json.build(policies), "envoy_on_request", cases)

    assert {str(case["name"]) for case in cases} == set(report)
    assert [] == [did for did in report.values() if f"respond {names.REASON}" in did or "log" in did]


def test_a_comments_codes_and_reasons_are_listed_as_errors(planted: Callable[[str], bytes]) -> None:
    policies = policy.resolve(contract.load(counter(planted)))
    comment = "Sells. NOT_FOUND where it is gone. ABORTED (PRICE_CHANGED) where it costs more."

    declared = refusals.of(policy.find(policies, "Sell"), comment)[:2]

    assert [("NOT_FOUND", 404, ()), ("ABORTED", 409, ("PRICE_CHANGED",))] == [
        (each.code, each.http, each.reasons) for each in declared
    ]


def test_only_what_a_policy_can_refuse_is_listed(planted: Callable[[str], bytes]) -> None:
    policies = policy.resolve(contract.load(counter(planted)))
    guarded = [each.reasons[0] for each in refusals.of(policy.find(policies, "Sell"), "")]
    public = [each.reasons[0] for each in refusals.of(policy.find(policies, "Look"), "")]

    assert {"TOKEN_MISSING", "SCOPE_MISSING", "RATE_LIMITED", "REQUEST_ID_REUSED"} <= set(guarded)
    assert {"TOKEN_MISSING", "SCOPE_MISSING", "REQUEST_ID_REUSED", "DEADLINE_EXCEEDED"}.isdisjoint(public)


@given(st.text(max_size=12), st.integers(0, 3), st.integers(0, 5))
def test_a_written_text_matches_its_pattern(wish: str, least: int, more: int) -> None:
    expression = rf"^(a|b)?[^\x00-\x1f]{{{least},{least + more}}}x+\d\w*(-[0-9a-f]{{4}}){{2}}\.z$"

    assert re.search(expression, pattern.text(expression, wish))


def test_a_pattern_nobody_can_write_for_gives_no_text() -> None:
    assert ["", "", ""] == [pattern.text(each, "x") for each in (r"^(", r"^\pL+$", r"^(?=a)b$")]


def test_a_directory_that_is_no_site_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").write_text("kept")

    assert 2 == program.main(["docs", "--out", str(tmp_path)])
    assert "is there and is no site" in capsys.readouterr().err
    assert ["precious"] == [path.name for path in tmp_path.iterdir()]


def test_the_command_writes_the_site_and_replaces_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "site"

    assert [0, 0] == [program.main(["docs", "--out", str(out)]) for _ in range(2)]
    assert f"-> {out / 'index.html'}" in capsys.readouterr().out
    assert "CatalogService" in (out / site.INDEX).read_text()
    assert [out] == list(tmp_path.iterdir())
