"""Pages behind a real gateway: browsers get files without a token, methods are what they were, the rest is unknown."""

import json
from collections.abc import Iterator
from dataclasses import replace
from http.client import HTTPConnection

import pytest

from gateway.envoy.bootstrap import Address
from svc.chassis.config import Address as Listening
from svc.chassis.site import Site
from svc.operations.pages import Pages
from tests.waiting import free_port

from .conftest import JWKS, settings_in
from .fronted import running

HTML = {"accept": "text/html,application/xhtml+xml"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, descriptors: bytes) -> Iterator[str]:
    """One place serves pages, the other is empty."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "console" / "assets").mkdir(parents=True)
    (folder / "console" / "index.html").write_text("<title>Weft</title>")
    (folder / "console" / "assets" / "a-1.js").write_text("run()")
    site = Site(Listening("127.0.0.1", 0), Pages(console=folder / "console", docs=None).answer)
    site.start()
    places = [Address("127.0.0.1", free_port()), Address("127.0.0.1", site.port)]
    try:
        settings = replace(settings_in(folder), pages=places)
        with running(descriptors, settings, jwks=JWKS.encode(), backend=free_port()) as address:
            yield address
    finally:
        site.stop()


def ask(gateway: str, verb: str, path: str, headers: dict[str, str] | None = None) -> tuple[int, str, bytes]:
    connection = HTTPConnection(gateway, timeout=20)
    connection.request(verb, path, headers=headers or {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.getheader("content-type", ""), body


def test_a_browser_gets_pages_without_a_token_whichever_place_is_empty(gateway: str) -> None:
    for _ in range(8):
        assert (200, "text/html; charset=utf-8", b"<title>Weft</title>") == ask(gateway, "GET", "/", HTML)
        assert (200, "text/javascript; charset=utf-8", b"run()") == ask(gateway, "GET", "/assets/a-1.js")
    assert (200, "text/html; charset=utf-8", b"") == ask(gateway, "HEAD", "/", HTML)


def test_headers_that_hold_a_page_back_come_through(gateway: str) -> None:
    connection = HTTPConnection(gateway, timeout=20)
    connection.request("GET", "/", headers=HTML | {"accept-encoding": "gzip"})
    answer = connection.getresponse()

    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "nosniff" == answer.headers["x-content-type-options"]
    assert "weft" == answer.headers["server"]
    connection.close()


def test_who_wants_no_html_is_welcomed_in_a_line(gateway: str) -> None:
    status, _, body = ask(gateway, "GET", "/")

    assert 200 == status
    assert body.startswith(b"Weft gateway")


@pytest.mark.parametrize(
    ("verb", "path"),
    [("GET", "/nothing"), ("POST", "/assets/a-1.js"), ("GET", "/assets/a/b.js"), ("GET", "/docsify"), ("GET", "/.env")],
)
def test_unknown_paths_are_unknown_as_ever(gateway: str, verb: str, path: str) -> None:
    status, kind, body = ask(gateway, verb, path, HTML)

    assert (404, "application/json") == (status, kind)
    assert 12 == json.loads(body)["code"]


def test_methods_ask_for_a_token_as_ever(gateway: str) -> None:
    status, kind, body = ask(gateway, "GET", "/v1/meshes/local")

    assert (401, "application/json") == (status, kind)
    assert 16 == json.loads(body)["code"]
