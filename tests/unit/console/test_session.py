"""Who is signed in at the page, how long, and what ends it, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser import DEADLINE_MS, sign_in
from tests.fakes.console_mesh import EMAIL, PASSWORD, ConsoleMesh
from tests.waiting import eventually

expect.set_options(timeout=DEADLINE_MS)


def test_a_wrong_password_is_told_and_the_right_one_opens(page: Page, mesh: ConsoleMesh) -> None:
    page.goto(mesh.url)
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("BAD_CREDENTIALS")

    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()

    expect(page.get_by_text("Calls at the gateway")).to_be_visible()
    assert page.evaluate("localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""


def test_signing_out_ends_the_session_here_and_at_the_mesh(signed_in: Page, mesh: ConsoleMesh) -> None:
    signed_in.get_by_role("button", name="Sign out").click()

    expect(signed_in.get_by_label("Password")).to_be_visible()
    eventually(lambda: mesh.deeds)
    assert signed_in.evaluate("sessionStorage.length") == 0
    signed_in.reload()
    expect(signed_in.get_by_label("Password")).to_be_visible()


def test_a_session_outlives_a_reload_and_an_access_token(page: Page, mesh: ConsoleMesh) -> None:
    mesh.expires_s = 1  # each token is as good as over, so that every call needs the next
    sign_in(page, mesh.url, EMAIL, PASSWORD)
    mesh.tokens.clear()
    page.reload()

    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert "RefreshSession" in mesh.calls


def test_news_go_on_with_a_new_token_where_the_mesh_no_longer_takes_the_old_one(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    mesh.stop()
    expect(signed_in.get_by_text("The mesh does not answer.")).to_be_visible()
    mesh.tokens.clear()
    mesh.start()

    expect(signed_in.get_by_text("live", exact=True)).to_be_visible()
    assert 1 == mesh.calls.count("RefreshSession")


@pytest.mark.parametrize("over", ["refresh token", "every token"])
def test_a_session_whose_news_are_refused_and_not_renewed_leads_back_to_the_door(
    signed_in: Page, mesh: ConsoleMesh, over: str
) -> None:
    mesh.stop()
    expect(signed_in.get_by_text("The mesh does not answer.")).to_be_visible()
    mesh.tokens.clear()
    if over == "refresh token":
        mesh.refresh_tokens.clear()
    else:
        mesh.takes_tokens = False
    mesh.start()

    expect(signed_in.get_by_text("Your session has ended")).to_be_visible()
    assert 1 == mesh.calls.count("RefreshSession")


def test_a_session_that_the_mesh_ended_leads_back_to_the_door(signed_in: Page, mesh: ConsoleMesh) -> None:
    mesh.tokens.clear()
    mesh.refresh_tokens.clear()
    signed_in.get_by_role("link", name="Traces", exact=True).click()

    expect(signed_in.get_by_text("Your session has ended")).to_be_visible()
