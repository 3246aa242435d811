"""The page in a real browser, on a mesh made from the operations contract."""

import json
import re
from pathlib import Path

import grpc
from playwright.sync_api import Browser, Page, expect

from tests.browser import DEADLINE_MS, sign_in, tab
from tests.fakes.console_mesh import EMAIL, PASSWORD, ConsoleMesh, refused
from tests.fakes.console_scene import Scene, hex_id
from tests.waiting import eventually
from weft.operations.v1 import mesh_pb2, queues_pb2

expect.set_options(timeout=DEADLINE_MS)

PAGES = ("overview", "services", "services/orders", "traces", "queues", "contracts", "alerts", "mail", "health")
AXE = Path(__file__).resolve().parents[3] / "console" / "node_modules" / "axe-core" / "axe.min.js"
ALL_RULES = "{runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']}"

PAGE_OF_ERRORS = b"<!doctype html><title>Troubleshooting</title><h1>Troubleshooting</h1>"
DOCUMENTS = {
    "index.html": b"<!doctype html><title>Weft</title><h1>Documents</h1>",
    "links.json": json.dumps(
        {
            "errors": {
                "FAILED_PRECONDITION/SUPERVISOR_REFUSED": "troubleshooting.html#supervisor_refused",
                "NOT_FOUND": "troubleshooting.html#not_found",
                "NOT_FOUND/PRODUCT_NOT_FOUND": "troubleshooting.html#product_not_found",
                "PERMISSION_DENIED": "troubleshooting.html#permission_denied",
            },
            "methods": {
                "weft.catalog.v1.CatalogService/GetProduct": "contracts/weft.catalog.v1.CatalogService.html#GetProduct"
            },
        }
    ).encode(),
    "troubleshooting.html": PAGE_OF_ERRORS,
    "contracts/weft.catalog.v1.CatalogService.html": PAGE_OF_ERRORS.replace(b"Troubleshooting", b"CatalogService"),
}


def fill(mesh: ConsoleMesh) -> None:
    """Something of everything."""
    for number in range(30):
        mesh.scene.add_trace(number)
    mesh.scene.add_letter("email", "m1", "SMTP 550: mailbox unavailable")
    mesh.scene.add_mail(1)
    mesh.scene.kill("processes/orders-2")
    mesh.documents = DOCUMENTS


def test_the_overview_shows_parts_their_state_and_what_goes_wrong_as_it_happens(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    graph = signed_in.get_by_role("group", name="Parts of the mesh and the calls between them")
    expect(graph.get_by_role("link", name="orders 3 of 3 ready · 78/s 4.1 %")).to_be_visible()
    expect(signed_in.get_by_role("link", name="4.1 % of orders fails")).to_be_visible()
    expect(signed_in.get_by_role("link", name="orders-2 is down")).to_have_count(0)

    mesh.scene.kill("processes/orders-2")

    expect(graph.get_by_role("link", name="orders 2 of 3 ready")).to_be_visible()
    expect(signed_in.get_by_role("link", name="orders-2 is down")).to_be_visible()
    expect(signed_in.get_by_role("link", name="InstanceDown")).to_be_visible()


def test_an_operator_scales_and_restarts_after_being_asked_and_sees_what_became_of_it(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    signed_in.get_by_role("link", name="Services", exact=True).click()
    signed_in.get_by_role("button", name="Scale orders").click()
    dialog = signed_in.get_by_role("dialog")
    dialog.get_by_label("So many, whatever the load").check()
    dialog.get_by_label("Instances").fill("4")
    assert [] == mesh.deeds
    dialog.get_by_role("button", name="Scale").click()

    expect(signed_in.get_by_text("orders goes to 4 instances.")).to_be_visible()
    expect(signed_in.get_by_role("row", name=re.compile("^orders ")).get_by_text("4 of 4")).to_be_visible()
    assert [mesh_pb2.ScaleServiceRequest(name="services/orders", size=4)] == mesh.deeds

    mesh.failures["RestartProcess"] = refused(
        grpc.StatusCode.FAILED_PRECONDITION, "it is being replaced already", "SUPERVISOR_REFUSED"
    )
    signed_in.get_by_role("row", name=re.compile("^orders ")).get_by_role("link").first.click()
    for _ in range(2):
        signed_in.get_by_role("button", name="Restart orders-1").click()
        signed_in.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(signed_in.get_by_text("it is being replaced already")).to_be_visible()
    expect(signed_in.get_by_text("orders-1 is being restarted.")).to_be_visible()
    expect(signed_in.get_by_role("row", name=re.compile("^orders-1 ")).get_by_text("starting")).to_be_visible()


def test_errors_and_methods_lead_to_their_places_in_the_documents(signed_in: Page, mesh: ConsoleMesh) -> None:
    mesh.documents = DOCUMENTS
    signed_in.goto(f"{mesh.url}/#/contracts/weft.catalog.v1.CatalogService/GetProduct")
    reference = signed_in.get_by_role("link", name="All of it in the reference")
    expect(reference).to_have_attribute("href", "/docs/contracts/weft.catalog.v1.CatalogService.html#GetProduct")
    declared = signed_in.get_by_role("link", name="What to do about PRODUCT_NOT_FOUND")
    expect(declared).to_have_attribute("href", "/docs/troubleshooting.html#product_not_found")

    signed_in.get_by_label("name required").fill("products/none")
    signed_in.get_by_role("button", name="Call", exact=True).click()
    with signed_in.expect_popup() as opened:
        signed_in.get_by_role("alert").get_by_role("link", name="What to do about it").press("Enter")
    expect(opened.value.get_by_role("heading", name="Troubleshooting")).to_be_visible()
    assert f"{mesh.url}/docs/troubleshooting.html#product_not_found" == opened.value.url
    # What was typed is still there.
    expect(signed_in.get_by_label("name required")).to_have_value("products/none")

    mesh.failures["RestartProcess"] = refused(grpc.StatusCode.FAILED_PRECONDITION, "no", "SUPERVISOR_REFUSED")
    signed_in.goto(f"{mesh.url}/#/services/orders")
    signed_in.get_by_role("button", name="Restart orders-1").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Restart").click()
    told = signed_in.get_by_role("status").get_by_role("link", name="What to do about it")
    expect(told).to_have_attribute("href", "/docs/troubleshooting.html#supervisor_refused")

    signed_in.get_by_role("navigation", name="Pages").get_by_role("link", name="Docs").press("Enter")
    expect(signed_in.get_by_role("heading", name="Documents")).to_be_visible()


def test_nothing_leads_to_documents_before_they_are_built(signed_in: Page, mesh: ConsoleMesh) -> None:
    signed_in.goto(f"{mesh.url}/#/contracts/weft.catalog.v1.CatalogService/GetProduct")
    signed_in.get_by_label("name required").fill("products/none")
    signed_in.get_by_role("button", name="Call", exact=True).click()
    expect(signed_in.get_by_role("alert")).to_contain_text("PRODUCT_NOT_FOUND")
    expect(signed_in.locator("a[href*='docs/']")).to_have_count(0)

    # They are built while a mesh starts: whoever came early finds them at the next page.
    mesh.documents = DOCUMENTS
    signed_in.get_by_role("link", name="Services", exact=True).click()

    expect(signed_in.get_by_role("link", name="Docs")).to_be_visible()


def test_escape_takes_a_question_back_and_nothing_is_done(signed_in: Page, mesh: ConsoleMesh) -> None:
    signed_in.goto(f"{mesh.url}/#/services/orders")
    button = signed_in.get_by_role("button", name="Kill orders-1")
    button.click()
    expect(signed_in.get_by_role("dialog")).to_be_visible()
    signed_in.keyboard.press("Escape")

    expect(signed_in.get_by_role("dialog")).to_have_count(0)
    expect(button).to_be_focused()
    assert [] == mesh.deeds


def test_a_reader_sees_the_mesh_and_no_button_that_changes_it(page: Page, mesh: ConsoleMesh) -> None:
    mesh.scopes = ["mesh.read"]
    mesh.scene.add_letter("email", "m1", "SMTP 550")
    sign_in(page, mesh.url, EMAIL, PASSWORD)
    for name in ("services", "services/orders", "queues"):
        page.goto(f"{mesh.url}/#/{name}")
        expect(page.get_by_role("table").first).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("Scale|Roll|Restart|Kill|Replay"))).to_have_count(0)
    expect(page.get_by_role("link", name="Mail", exact=True)).to_have_count(0)


def test_a_thousand_traces_are_searched_and_only_those_in_sight_are_in_the_document(
    page: Page, mesh: ConsoleMesh
) -> None:
    for number in range(1000):
        mesh.scene.add_trace(number)
    sign_in(page, mesh.url, EMAIL, PASSWORD)
    page.goto(f"{mesh.url}/#/traces")
    for shown in range(400, 1001, 200):
        page.get_by_role("button", name="200 older ones").click()
        expect(page.get_by_text(re.compile(f"{shown:,} traces".replace(",", ".")))).to_be_visible()
    table = page.get_by_role("table", name="Traces")
    assert "1000" == table.get_attribute("aria-rowcount")
    assert 100 > table.get_by_role("row").count()

    table.evaluate("element => element.scrollTo(0, element.scrollHeight)")
    expect(table.get_by_role("link", name="PlaceOrder 999")).to_be_visible()

    page.get_by_label("Operation, or a trace's id").fill("PlaceOrder 9")
    page.get_by_label("only errors").check()
    meant = [number for number in range(0, 1000, 9) if str(number).startswith("9")]
    expect(table.get_by_role("link", name=re.compile("^PlaceOrder 9"))).to_have_count(len(meant))
    expect(table.get_by_role("row")).to_have_count(len(meant))


def test_older_traces_of_a_period_are_those_of_the_same_period(page: Page, mesh: ConsoleMesh) -> None:
    for number in range(500):
        mesh.scene.add_trace(number)
    sign_in(page, mesh.url, EMAIL, PASSWORD)
    page.goto(f"{mesh.url}/#/traces?minutes=60")
    for shown in (400, 500):
        page.get_by_role("button", name="200 older ones").click()
        expect(page.get_by_text(re.compile(f"^{shown} traces"))).to_be_visible()

    expect(page.get_by_role("button", name="200 older ones")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_trace_shows_where_it_failed_with_the_logs_of_that_span(signed_in: Page, mesh: ConsoleMesh) -> None:
    mesh.scene.add_trace(0)
    signed_in.goto(f"{mesh.url}/#/traces/{hex_id('trace 0', 32)}")

    expect(signed_in.get_by_role("heading", name="INSERT orders, outbox")).to_be_visible()
    expect(signed_in.get_by_text("out of stock: mug")).to_be_visible()
    expect(signed_in.get_by_text("too little is left of mug")).to_be_visible()

    signed_in.get_by_role("button", name="INSERT orders, outbox orders").focus()
    signed_in.keyboard.press("ArrowUp")
    signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_role("heading", name="transaction")).to_be_visible()


def test_dead_letters_are_read_and_replayed(signed_in: Page, mesh: ConsoleMesh) -> None:
    for number in (1, 2, 3):
        mesh.scene.add_letter("email", f"m{number}", "SMTP 550: mailbox unavailable")
    signed_in.get_by_role("link", name=re.compile("^Queues")).click()
    signed_in.get_by_role("button", name="OrderPlaced").first.click()
    expect(signed_in.get_by_text('"productId": "mug"')).to_be_visible()
    expect(signed_in.get_by_role("link", name="Trace of the call that led to it")).to_be_visible()

    signed_in.get_by_label("Pick queues/email/deadLetters/m2").check()
    signed_in.get_by_role("button", name="Replay 1").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(signed_in.get_by_text("1 event sent back to their queues.")).to_be_visible()
    expect(signed_in.get_by_label("Pick queues/email/deadLetters/m2")).to_have_count(0)

    signed_in.get_by_role("button", name="Replay all").click()
    signed_in.get_by_role("dialog").get_by_role("button", name="Replay").click()
    expect(signed_in.get_by_text("No dead letters")).to_be_visible()
    assert [
        queues_pb2.ReplayDeadLettersRequest(parent="queues/email", letter_ids=["m2"]),
        queues_pb2.ReplayDeadLettersRequest(parent="queues/-", all=True),
    ] == mesh.deeds


def test_a_method_is_called_by_its_form_over_grpc_web_and_json_and_shown_for_a_shell(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    signed_in.goto(f"{mesh.url}/#/contracts/weft.catalog.v1.CatalogService/GetProduct")
    answer = signed_in.get_by_role("region", name="Answer")
    for protocol in ("gRPC-web", "JSON"):
        signed_in.get_by_role("button", name=protocol, exact=True).click()
        signed_in.get_by_label("name required").fill("products/mug")
        signed_in.get_by_role("button", name="Call", exact=True).click()
        expect(answer).to_contain_text('"displayName": "MUG"')

        signed_in.get_by_label("name required").fill("products/none")
        signed_in.get_by_role("button", name="Call", exact=True).click()
        expect(answer.get_by_role("alert")).to_contain_text("NOT_FOUND · PRODUCT_NOT_FOUND")
        expect(answer.get_by_role("alert")).to_contain_text("no product is called so")

    signed_in.get_by_role("button", name="gRPC", exact=True).click()
    expect(answer).to_contain_text("weft.catalog.v1.CatalogService/GetProduct")
    expect(answer).to_contain_text('{"name":"products/none"}')


def test_a_stream_that_a_form_opened_ends_with_its_page(signed_in: Page, mesh: ConsoleMesh) -> None:
    eventually(lambda: mesh.watching == 1)
    signed_in.goto(f"{mesh.url}/#/contracts/weft.operations.v1.MeshService/WatchMesh")
    signed_in.get_by_label("name required").fill("meshes/local")
    signed_in.get_by_role("button", name="Call", exact=True).click()
    expect(signed_in.get_by_role("region", name="Answer")).to_contain_text("open, ")
    assert 2 == mesh.watching

    signed_in.get_by_role("link", name="Services", exact=True).click()

    eventually(lambda: mesh.watching == 1)


def test_a_gateway_that_dies_is_told_at_once_and_what_is_shown_is_marked_until_it_is_back(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    expect(signed_in.get_by_text("live", exact=True)).to_be_visible()
    mesh.stop()

    expect(signed_in.get_by_text("The mesh does not answer.")).to_be_visible()
    expect(signed_in.get_by_text("Calls at the gateway")).to_be_visible()
    expect(signed_in.locator(".old").first).to_be_visible()

    signed_in.get_by_role("button", name="Try now").click()
    mesh.start()
    expect(signed_in.get_by_text("live", exact=True)).to_be_visible()
    expect(signed_in.get_by_text("The mesh does not answer.")).to_have_count(0)
    expect(signed_in.locator(".old")).to_have_count(0)


def test_without_anybody_s_help_the_page_comes_back_and_asks_again_what_it_missed(
    signed_in: Page, mesh: ConsoleMesh
) -> None:
    mesh.stop()
    expect(signed_in.get_by_text("The mesh does not answer.")).to_be_visible()
    signed_in.get_by_role("link", name="Mail", exact=True).click()
    expect(signed_in.get_by_role("alert").filter(has_text="UNAVAILABLE")).to_be_visible()
    mesh.scene.add_mail(7)
    mesh.start()

    expect(signed_in.get_by_role("link", name="Order 7")).to_be_visible()


def test_news_that_are_missing_are_named(signed_in: Page, mesh: ConsoleMesh) -> None:
    source = mesh.scene.mesh.sources[1]
    source.state, source.reason = mesh_pb2.Source.STATE_UNAVAILABLE, "connection refused"

    expect(signed_in.get_by_text("Some of the news is missing.")).to_be_visible()
    expect(signed_in.get_by_role("link", name="No news from: metrics")).to_be_visible()


def test_each_page_says_so_when_it_may_not_be_seen(page: Page, mesh: ConsoleMesh) -> None:
    denied = refused(grpc.StatusCode.PERMISSION_DENIED, "scope mesh.read is needed", "SCOPE_MISSING")
    mesh.handlers = {
        path: (request, handler if public else _raises(denied), public)
        for path, (request, handler, public) in mesh.handlers.items()
    }
    page.goto(mesh.url)
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("You may not see how the mesh does.")).to_be_visible()
    for name in PAGES:
        page.goto(f"{mesh.url}/#/{name}")
        expect(page.get_by_text(re.compile("Nothing to show|PERMISSION_DENIED")).first).to_be_visible()


def _raises(error: Exception):  # type: ignore[no-untyped-def]
    def handler(_: object) -> None:
        raise error

    return handler


def test_a_mesh_with_nothing_in_it_is_shown_as_that(browser: Browser) -> None:
    mesh = ConsoleMesh(Scene())
    for field in (
        "processes",
        "services",
        "edges",
        "queues",
        "databases",
        "registry_members",
        "cache_nodes",
        "proxies",
    ):
        mesh.scene.mesh.ClearField(field)
    mesh.start()
    with tab(browser) as (page, wrong):
        sign_in(page, mesh.url, EMAIL, PASSWORD)
        said = {
            "overview": "Nothing runs yet",
            "traces": "No trace yet",
            "queues": "No dead letters",
            "alerts": "No alert fires",
            "mail": "No mail yet",
            "health": "No database is known",
        }
        for name, text in said.items():
            page.goto(f"{mesh.url}/#/{name}")
            expect(page.get_by_text(text)).to_be_visible()
        assert [] == wrong
    mesh.stop()


def test_nothing_on_any_page_shuts_anybody_out(browser: Browser, mesh: ConsoleMesh) -> None:
    fill(mesh)
    found: dict[str, list[str]] = {}
    with tab(browser) as (page, wrong):
        page.goto(mesh.url)
        found["door"] = violations(page)
        sign_in(page, mesh.url, EMAIL, PASSWORD)
        detail = (f"traces/{hex_id('trace 0', 32)}", "mail/1", "runbooks/InstanceDown")
        for name in (*PAGES, *detail, "queues/email?letter=queues/email/deadLetters/m1"):
            show(page, mesh, name)
            found[name] = violations(page)
        show(page, mesh, "services/orders")
        page.get_by_role("button", name="Scale orders").click()
        found["dialog"] = violations(page)
        assert [] == wrong

    assert {} == {name: said for name, said in found.items() if said}


def test_everything_can_be_read_in_the_dark(browser: Browser, mesh: ConsoleMesh) -> None:
    fill(mesh)
    found: dict[str, list[str]] = {}
    with tab(browser, scheme="dark") as (page, wrong):
        sign_in(page, mesh.url, EMAIL, PASSWORD)
        for name in ("overview", "services/orders", "traces", "contracts", "alerts"):
            show(page, mesh, name)
            found[name] = violations(page, "{runOnly: {type: 'rule', values: ['color-contrast']}}")
        assert [] == wrong

    assert {} == {name: said for name, said in found.items() if said}


def show(page: Page, mesh: ConsoleMesh, name: str) -> None:
    """A page, once there is something on it."""
    page.goto(f"{mesh.url}/#/{name}")
    page.locator("main :is(table, [role=table], .graph, .fall, .prose, form)").first.wait_for()


def violations(page: Page, rules: str = ALL_RULES) -> list[str]:
    """What axe-core finds; by default against WCAG 2.2 at the levels A and AA, and what else it thinks good."""
    page.evaluate(AXE.read_text())
    answer = page.evaluate(f"axe.run(document, {rules})")
    return [
        f"{violation['id']}: {node['html'][:200]} {node['any'][0]['message'] if node['any'] else ''}"
        for violation in answer["violations"]
        for node in violation["nodes"]
    ]


def test_every_page_is_reached_and_used_by_the_keyboard_alone(signed_in: Page, mesh: ConsoleMesh) -> None:
    fill(mesh)
    reached: list[str] = []
    signed_in.keyboard.press("Tab")
    expect(signed_in.get_by_role("button", name="Skip to the page")).to_be_focused()
    for _ in range(12):
        signed_in.keyboard.press("Tab")
        reached.append(signed_in.evaluate("document.activeElement.textContent.trim()"))
    for title in ("Services", "Traces", "Queues", "Contracts", "Alerts", "Mail", "Stores", "Sign out"):
        assert any(text.startswith(title) for text in reached), (title, reached)

    signed_in.get_by_role("link", name="Services", exact=True).focus()
    signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_role("main")).to_be_focused()
    ring = signed_in.get_by_role("button", name="Scale orders")
    ring.focus()
    signed_in.keyboard.press("Shift+Tab")
    signed_in.keyboard.press("Tab")
    assert "solid" in ring.evaluate("element => getComputedStyle(element).outlineStyle")
    signed_in.keyboard.press("Enter")
    expect(signed_in.get_by_role("dialog")).to_be_visible()
    signed_in.keyboard.press("Escape")
    expect(ring).to_be_focused()
