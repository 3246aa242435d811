"""Files for browsers: only those of two directories, with headers that let them do nothing else than they must."""

import gzip
import os
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from svc.chassis.config import Address
from svc.chassis.site import Request, Response, Site
from svc.operations.pages import Pages

SCRIPT = "console.log('weft');\n" * 200


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    console, docs = tmp_path / "console", tmp_path / "docs"
    (console / "assets").mkdir(parents=True)
    (docs / "runbooks").mkdir(parents=True)
    (console / "index.html").write_text("<!doctype html><title>Weft</title>")
    (console / "assets" / "index-4f2a.js").write_text(SCRIPT)
    (console / "assets" / ".secret.js").write_text("hidden")
    (console / "assets" / "run.sh").write_text("not for pages")
    (docs / "index.html").write_text("<title>Documents</title>")
    (docs / "runbooks" / "index.html").write_text("<title>Runbooks</title>")
    (tmp_path / "outside.html").write_text("outside")
    (console / "link.html").symlink_to(tmp_path / "outside.html")
    return Pages(console=console, docs=docs)


def get(pages: Pages, target: str, **headers: str) -> Response:
    return pages.answer(Request("GET", target, {name.replace("_", "-"): value for name, value in headers.items()}))


@pytest.mark.parametrize(
    ("target", "kind", "says"),
    [
        ("/", "text/html; charset=utf-8", b"Weft"),
        ("/?x=1", "text/html; charset=utf-8", b"Weft"),
        ("/assets/index-4f2a.js", "text/javascript; charset=utf-8", b"console.log"),
        ("/docs/", "text/html; charset=utf-8", b"Documents"),
        ("/docs/runbooks/", "text/html; charset=utf-8", b"Runbooks"),
        ("/docs/runbooks/index.html", "text/html; charset=utf-8", b"Runbooks"),
    ],
)
def test_a_file_is_what_lies_there(pages: Pages, target: str, kind: str, says: bytes) -> None:
    answer = get(pages, target)

    assert (200, kind) == (answer.status, answer.headers["Content-Type"])
    assert says in answer.body


@pytest.mark.parametrize(
    "target",
    [
        "/assets/",
        "/assets/nothing.js",
        "/assets/../index.html",
        "/assets/..%2findex.html",
        "/../outside.html",
        "//index.html",
        "/docs/../console/index.html",
        "/docs/%2e%2e/outside.html",
        "/link.html",
        "/assets/.secret.js",
        "/assets/run.sh",
        "/assets/index-4f2a.js/",
        "/assets/index-4f2a.js\x00.html",
        "/" + "a" * 4000,
    ],
)
def test_nothing_else_is_served(pages: Pages, target: str) -> None:
    answer = get(pages, target)

    assert 404 == answer.status
    assert b"outside" not in answer.body
    assert b"hidden" not in answer.body


def test_every_answer_forbids_what_pages_do_not_need(pages: Pages) -> None:
    for target in ("/", "/assets/index-4f2a.js", "/docs/", "/nothing"):
        headers = get(pages, target).headers
        assert "nosniff" == headers["X-Content-Type-Options"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe-eval" not in headers["Content-Security-Policy"]
        assert "DENY" == headers["X-Frame-Options"]
    assert "script-src 'self'" in get(pages, "/").headers["Content-Security-Policy"]
    assert "script-src 'self'; " in get(pages, "/docs/").headers["Content-Security-Policy"]


def test_what_is_named_by_its_content_is_kept_and_all_else_asked_for_again(pages: Pages) -> None:
    assert "immutable" in get(pages, "/assets/index-4f2a.js").headers["Cache-Control"]
    first = get(pages, "/")

    again = get(pages, "/", if_none_match=first.headers["ETag"])

    assert "no-cache" == first.headers["Cache-Control"]
    assert (304, b"") == (again.status, again.body)


def test_a_file_is_packed_for_who_takes_it(pages: Pages, tmp_path: Path) -> None:
    plain = get(pages, "/assets/index-4f2a.js")
    packed = get(pages, "/assets/index-4f2a.js", accept_encoding="deflate, gzip;q=0.5")
    refused = get(pages, "/assets/index-4f2a.js", accept_encoding="gzip;q=0, br")
    beside = tmp_path / "console/assets/index-4f2a.js.br"
    beside.write_bytes(b"as brotli")
    os.utime(tmp_path / "console/assets/index-4f2a.js", ns=(1, 1))

    best = get(pages, "/assets/index-4f2a.js", accept_encoding="gzip, br")

    assert SCRIPT.encode() == plain.body == gzip.decompress(packed.body) == refused.body
    assert ("gzip", "br") == (packed.headers["Content-Encoding"], best.headers["Content-Encoding"])
    assert b"as brotli" == best.body
    assert "Content-Encoding" not in plain.headers
    assert {"Accept-Encoding"} == {answer.headers["Vary"] for answer in (plain, packed, best)}
    assert 3 == len({answer.headers["ETag"] for answer in (plain, packed, best)})


def test_a_file_that_is_built_anew_is_seen_at_once(pages: Pages, tmp_path: Path) -> None:
    before = get(pages, "/")
    (tmp_path / "console" / "index.html").write_text("<!doctype html><title>Newer</title>")

    assert b"Newer" in get(pages, "/", if_none_match=before.headers["ETag"]).body


def test_without_a_build_a_page_says_how_to_make_one() -> None:
    for pages in (Pages(console=None, docs=None), Pages(console=Path("/nonexistent"), docs=None)):
        answer = get(pages, "/")
        assert (200, "no-store") == (answer.status, answer.headers["Cache-Control"])
        assert b"make setup" in answer.body
        assert 404 == get(pages, "/docs/").status
        assert b"make docs" in get(pages, "/docs/").body
        assert b"make docs" not in get(pages, "/docs/nothing.html").body


def test_the_documents_begin_with_a_slash(pages: Pages) -> None:
    answer = get(pages, "/docs")

    assert (308, "/docs/") == (answer.status, answer.headers["Location"])


def asked(connection: HTTPConnection, verb: str, target: str, body: bytes | None = None) -> HTTPResponse:
    connection.request(verb, target, body=body)
    return connection.getresponse()


def test_a_site_answers_one_request_after_another_and_keeps_bodies_in_bounds() -> None:
    def answer(request: Request) -> Response:
        if request.target == "/broken":
            raise ZeroDivisionError
        return Response(200, request.body or b"four", {"Content-Type": "text/plain"})

    site = Site(Address("127.0.0.1", 0), answer, body_max=8)
    site.start()
    try:
        connection = HTTPConnection("127.0.0.1", site.port, timeout=10)
        found = []
        for verb, target, body in (
            ("GET", "/", None),
            ("HEAD", "/", None),
            ("GET", "/broken", None),
            ("POST", "/", b"12345678"),
            ("POST", "/", b"123456789"),
        ):
            got = asked(connection, verb, target, body)
            found.append((got.status, got.read()))
        assert [(200, b"four"), (200, b""), (500, b""), (200, b"12345678"), (413, b"")] == found
        assert 501 == asked(connection, "DELETE", "/").status
    finally:
        site.stop()
