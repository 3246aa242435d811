"""The documents' site: whole, closed in itself, searchable, and no older than what it is made of."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from docs.site import building, links, stamp, troubleshooting
from docs.site.__main__ import generated
from svc.chassis.site import Request
from svc.operations.pages import Pages
from tests.documents.blocks import ROOT
from weft_protos import policy

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("site")]


class Page(HTMLParser):
    """What a page refers to, its anchors, and what it would run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.inline: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.anchors |= {said[name] for name in ("id", "name") if name in said}
        self.inline += [f"{tag} {name}" for name in said if name.startswith("on")]
        if tag == "script" and "src" not in said:
            self.inline.append("script")
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag in {"script", "img", "link", "iframe", "source"}:
            self.loads += [said[name] for name in ("src", "href") if name in said]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "docs"
    building.build(ROOT, out)
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_generated_pages_are_what_contracts_and_command_line_say() -> None:
    assert [] == [path for path, text in generated().items() if (ROOT / path).read_text() != text], "run `make gen`"


def test_every_error_that_any_call_may_meet_has_its_cause_and_what_to_do() -> None:
    said = troubleshooting.said()

    assert set() == troubleshooting.missing()
    assert [] == [(code, reason) for code, each in said.items() for reason, words in each.items() if "fix" not in words]


def test_every_reason_that_the_gateway_gives_is_explained() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "gateway/envoy").rglob("*.lua"))
    # Scripts say what is wrong with a body; the refusal passes such reasons on, and has its own word for all else.
    said = (r'"((?:JSON|GRPC)_[A-Z_]*[A-Z])"', r'return \d+, \w+, "([A-Z_]+)"', r'\[\d+\] = "([A-Z_]+)"')
    given = {reason for pattern in said for reason in re.findall(pattern, scripts)}

    assert len(given) > 15
    assert set() == given - {reason for found in troubleshooting.reasons().values() for reason in found}


def test_nothing_is_explained_that_nobody_gives() -> None:
    code = "".join(
        path.read_text()
        for folder in ("gateway/envoy", "svc", "protos/py")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".lua"}
    )
    own = {(each, each) for each in troubleshooting.CODES}
    said = {(code, reason) for code, words in troubleshooting.said().items() for reason in words}

    assert [] == sorted(reason for _, reason in said - own if f'"{reason}"' not in code)


def test_every_document_is_a_page_of_it(site: Path) -> None:
    for path in (ROOT / "docs").rglob("*.md"):
        assert (site / path.relative_to(ROOT / "docs").with_suffix(".html")).is_file(), path
    for name in ("architecture.html", "known-limits.html", "decisions/index.html", "runbooks/index.html"):
        assert (site / name).is_file(), name
    assert (site / "contracts" / "weft.orders.v1.OrderService.html").is_file()


def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing_of_its_own(pages: dict[Path, Page]) -> None:
    assert [] == [(path.name, each) for path, page in pages.items() for each in page.loads if urlsplit(each).netloc]
    assert [] == [(path.name, each) for path, page in pages.items() for each in page.inline]


def test_every_link_of_it_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            target, anchor = urldefrag(link)
            target = target.partition("?")[0]
            if urlsplit(link).scheme or not (target or anchor):
                continue
            there = (path.parent / unquote(target)).resolve() if target else path
            if not there.is_file() or (there in pages and anchor and unquote(anchor) not in pages[there].anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert [] == broken


def test_whatever_other_pages_are_told_to_lead_to_is_there(site: Path, pages: dict[Path, Page]) -> None:
    told = json.loads((site / links.NAME).read_text())
    errors = {f"{code}/{reason}" for code, known in troubleshooting.reasons().items() for reason in known}
    methods = {f"{service.full_name}/{method.name}" for service in policy.SERVICES for method in service.methods}

    assert errors | set(troubleshooting.CODES) == set(told["errors"])
    assert methods == set(told["methods"])
    broken = [
        place
        for place in (*told["errors"].values(), *told["methods"].values())
        if urldefrag(place).fragment not in pages[site / urldefrag(place).url].anchors
    ]
    assert [] == broken


def test_a_reason_under_two_codes_has_a_place_under_each(site: Path) -> None:
    errors = json.loads((site / links.NAME).read_text())["errors"]
    text = (site / "troubleshooting.html").read_text()
    first, second = errors["FAILED_PRECONDITION/USER_SUSPENDED"], errors["UNAUTHENTICATED/USER_SUSPENDED"]

    def under(code: str, place: str) -> bool:
        return text.index(f'id="{code.lower()}"') < text.index(f'id="{urldefrag(place).fragment}"')

    assert first != second
    assert (False, True) == (under("UNAUTHENTICATED", first), under("UNAUTHENTICATED", second))


def test_a_site_is_known_to_be_of_its_sources(site: Path) -> None:
    assert stamp.fresh(ROOT, site)


def test_a_search_finds_words_of_the_documents_without_asking_anybody(site: Path) -> None:
    index = (site / "searchindex.js").read_text()

    assert '"how-to/canary-lane"' in index
    assert "OUT_OF_STOCK".lower() in index.lower()
    assert {"searchtools.js", "language_data.js", "doctools.js"} <= {path.name for path in (site / "_static").iterdir()}


def test_operations_serve_all_that_a_page_needs(site: Path, pages: dict[Path, Page]) -> None:
    served = Pages(console=None, docs=site)
    for path, page in pages.items():
        for name in (".", *(each for each in page.loads if each != "#")):
            there = path if name == "." else (path.parent / urlsplit(name).path).resolve()
            answer = served.answer(Request("GET", f"/docs/{there.relative_to(site).as_posix()}", {}))
            assert 200 == answer.status, (path.name, name)


def test_a_link_to_what_is_no_page_becomes_its_name() -> None:
    gathered = building.gathered(ROOT)

    assert not any("<!-- run" in text or "<!-- read" in text for text in gathered.values())
    assert not any("](../README" in text or "](README" in text for text in gathered.values())
    assert "(known-limits.md)" in gathered["index.md"]
