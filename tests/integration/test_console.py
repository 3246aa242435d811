"""The console in a real browser, on the real mesh: it tells the truth of what is done, and does what it is told."""

import contextlib
import re
from collections.abc import Iterator

import pika
import pytest
from playwright.sync_api import Browser, Page, expect

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.browser import DEADLINE_MS, chromium, sign_in, tab
from tests.fakes.worker import garbage
from tests.integration.shop import Shop
from tests.waiting import eventually
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import work_queue
from worker.delivery import DeadLetter

expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def url(mesh: Mesh) -> str:
    mesh.wait_ready()
    return f"http://{mesh.gateway}"


@pytest.fixture
def page(browser: Browser, mesh: Mesh, url: str) -> Iterator[Page]:
    """The operator's tab, in which nothing may go wrong."""
    email, password = ((mesh.secrets / f"operator.{name}").read_text().strip() for name in ("email", "password"))
    with tab(browser) as (opened, wrong):
        sign_in(opened, url, email, password)
        yield opened
        assert [] == wrong


def test_the_overview_shows_every_part_that_runs(page: Page, mesh: Mesh) -> None:
    graph = page.get_by_role("group", name="Parts of the mesh and the calls between them")
    for name in ("gateway", "identity", "catalog", "orders", "operations", "postgres"):
        expect(graph.get_by_role("link", name=re.compile(f"^{name} [0-9]+ of "))).to_be_visible()
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    assert "default-src 'none'" in str(page.reload().headers["content-security-policy"])  # type: ignore[union-attr]


def test_a_kill_is_seen_and_so_is_the_new_process(page: Page, mesh: Mesh, url: str) -> None:
    before = next(process.restarts for process in mesh.status().processes if process.name == "catalog-1")
    page.goto(f"{url}/#/services/catalog")
    page.get_by_role("button", name="Kill catalog-1").click()
    page.get_by_role("dialog").get_by_role("button", name="Kill").click()

    expect(page.get_by_text("catalog-1 was killed")).to_be_visible()
    killed = page.get_by_role("row", name=re.compile("^catalog-1 "))
    expect(killed.get_by_role("cell", name=str(before + 1), exact=True)).to_be_visible()
    mesh.wait_ready()
    expect(killed.get_by_text("ready")).to_be_visible()


def test_a_service_is_scaled_from_the_page_out_and_in(page: Page, mesh: Mesh, url: str) -> None:
    def size() -> int:
        return sum(process.service == "catalog" and process.state == "ready" for process in mesh.status().processes)

    page.goto(f"{url}/#/services/catalog")
    try:
        for wanted in (3, 2):
            page.get_by_role("button", name="Scale catalog").click()
            dialog = page.get_by_role("dialog")
            dialog.get_by_label("So many, whatever the load").check()
            dialog.get_by_label("Instances").fill(str(wanted))
            dialog.get_by_role("button", name="Scale").click()
            expect(page.get_by_text(f"{wanted} of {wanted} ready")).to_be_visible()
            eventually(lambda wanted=wanted: size() == wanted)  # type: ignore[misc]
    finally:
        mesh.scale("catalog", 2)
        mesh.wait_ready()


def test_an_error_leads_to_its_trace_and_every_protocol_says_the_same(page: Page, url: str) -> None:
    page.goto(f"{url}/#/contracts/weft.catalog.v1.CatalogService/GetProduct")
    answer = page.get_by_role("region", name="Answer")
    for protocol in ("JSON", "gRPC-web"):
        page.get_by_role("button", name=protocol, exact=True).click()
        page.get_by_label("name required").fill("products/nobody-has-this")
        page.get_by_role("button", name="Call", exact=True).click()
        expect(answer.get_by_role("alert")).to_contain_text("NOT_FOUND · PRODUCT_NOT_FOUND")
    answer.get_by_role("link", name="Trace", exact=True).click()

    # Spans of a call come in for a while after it has ended: the page asks again until they have.
    expect(page.get_by_role("button", name=re.compile("GetProduct")).first).to_be_visible()


@pytest.mark.usefixtures("documents")
def test_an_error_leads_to_what_is_written_of_its_reason(page: Page, url: str) -> None:
    page.goto(f"{url}/#/contracts/weft.catalog.v1.CatalogService/GetProduct")
    page.get_by_label("name required").fill("products/nobody-has-this")
    page.get_by_role("button", name="Call", exact=True).click()
    error = page.get_by_role("region", name="Answer").get_by_role("alert")
    expect(error).to_contain_text("NOT_FOUND · PRODUCT_NOT_FOUND")
    docs = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Docs")

    with page.expect_popup() as opened:
        error.get_by_role("link", name="What to do about it").click()
    expect(opened.value.locator("#product_not_found")).to_be_attached()
    assert opened.value.url.endswith("/docs/troubleshooting.html#product_not_found")
    docs.click()
    expect(page.get_by_role("heading", name="Weft").first).to_be_visible()


def test_the_forms_of_every_method_are_made_from_the_mesh_s_own_contracts(page: Page, url: str) -> None:
    page.goto(f"{url}/#/contracts")
    index = page.get_by_role("navigation", name="Methods")
    for method in ("PlaceOrder", "CreateSession", "WatchMesh", "CreateReport"):
        index.get_by_role("link", name=re.compile(f"^{method}")).click()
        expect(page.get_by_role("heading", name=method, exact=True)).to_be_visible()
        expect(page.get_by_role("heading", name="Call it")).to_be_visible()


@pytest.fixture
def letter(mesh: Mesh) -> Iterator[None]:
    """An event that no worker can read, put aside; it comes back each time, and is taken away at the end."""
    url = (mesh.secrets / "amqp.url").read_text().strip()
    queue = work_queue("email")
    publisher = Publisher(url, name="test")
    publisher.start()
    try:
        assert publisher.ready(60)
        Ladder(publisher, queue).move(garbage(), DeadLetter("put aside to be looked at"))
        yield
    finally:
        publisher.stop(10)
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url.split(",")[0]))) as connection:
            connection.channel().queue_purge(queue.dead)


@pytest.mark.usefixtures("letter")
def test_a_dead_letter_appears_and_goes_back_to_its_worker(page: Page, url: str) -> None:
    page.goto(f"{url}/#/queues/email")
    letters = page.get_by_role("region", name="Dead letters", exact=True).get_by_role("row")
    put = letters.filter(has_text="put aside to be looked at")
    put.get_by_role("checkbox").check()
    page.get_by_role("button", name="Replay 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay").click()

    expect(page.get_by_text("1 event sent back to email.")).to_be_visible()
    expect(put).to_have_count(0)
    # Nobody can read it, so it comes back with the worker's own reason.
    expect(letters.get_by_role("checkbox", name="Pick queues/email/").first).to_be_visible()


def test_an_order_s_mail_is_in_the_mailbox(page: Page, mesh: Mesh, operator: GatewayClient, url: str) -> None:
    shop = Shop(mesh, operator)
    customer = shop.customer()
    shop.place(customer, {shop.product(): 1})
    page.goto(f"{url}/#/mail")

    expect(page.get_by_role("row").filter(has_text=customer.email).first).to_be_visible()


def test_when_both_gateways_die_the_page_says_so_and_comes_back_by_itself(page: Page, mesh: Mesh) -> None:
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    heard = page.evaluate("performance.now()")
    try:
        for name in ("gateway-1", "gateway-2"):
            mesh.kill(name)
        # A supervisor that is quick may have them back before a browser has noticed; what counts is that it goes on.
        mesh.wait_ready()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        expect(page.get_by_text("The mesh does not answer.")).to_have_count(0)
        assert page.evaluate("performance.now()") > heard, "the page was loaded anew"
    finally:
        mesh.wait_ready()
