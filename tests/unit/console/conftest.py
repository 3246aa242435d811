from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium, sign_in, tab
from tests.fakes.console_mesh import EMAIL, PASSWORD, ConsoleMesh


@pytest.fixture(scope="session")
def console() -> Path:
    """The folder that the page is built from."""
    return Path(__file__).resolve().parents[3] / "console"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def mesh() -> Iterator[ConsoleMesh]:
    mesh = ConsoleMesh()
    mesh.start()
    yield mesh
    mesh.stop()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab in which nothing may go wrong: no error, no refusal by the policy, no request elsewhere."""
    with tab(browser) as (opened, wrong):
        yield opened
        assert [] == wrong


@pytest.fixture
def signed_in(page: Page, mesh: ConsoleMesh) -> Page:
    sign_in(page, mesh.url, EMAIL, PASSWORD)
    return page
