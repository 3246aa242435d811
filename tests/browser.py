"""Debian's Chromium, driven through the console's pages."""

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
#: It asks nobody for anything, and runs as root.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Generous: a test that fails because a loaded machine was slow has found nothing.
DEADLINE_MS = 60_000.0


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, *, scheme: str = "light") -> Iterator[tuple[Page, list[str]]]:
    """An empty tab, and what goes wrong in it: errors of scripts, refusals of the page's policy, requests elsewhere."""
    context: BrowserContext = browser.new_context(
        viewport={"width": 1440, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    context.set_default_timeout(DEADLINE_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None,
    )
    page.on(
        "request",
        lambda request: wrong.append(request.url) if not request.url.startswith("http://127.0.0.1:") else None,
    )
    yield page, wrong
    context.close()


def sign_in(page: Page, url: str, email: str, password: str) -> None:
    """Through the door, until the overview shows figures."""
    page.goto(url)
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Calls at the gateway").wait_for()
