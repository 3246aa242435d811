"""A load tells what its callers saw, no more and no less: over real sockets, against a mesh in memory."""

import contextlib
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from deploy.cli.gateway_client import GatewayClient, SignInError
from deploy.cli.load import run, shop, traffic, watches
from deploy.cli.load.run import UnderLoad, lines
from deploy.cli.load.shop import Shop, Stock
from deploy.cli.load.tally import Tally
from deploy.cli.load.traffic import Wanted
from tests.fakes.market import Market
from tests.waiting import eventually

Code = grpc.StatusCode


# what is counted


def test_the_worst_gap_is_the_longest_time_without_a_success_the_last_one_included() -> None:
    tally = Tally(100.0)
    for now in (100.1, 100.2, 103.2, 103.3):
        tally.succeeded("GetOrder", due=now - 0.05, now=now)

    early, late = tally.result(104.0), tally.result(110.0)

    assert (3.0, 0.2) == (early["worst_gap_s"], early["worst_gap_at_s"])
    assert (6.7, 3.3) == (late["worst_gap_s"], late["worst_gap_at_s"])


def test_a_refusal_ends_no_gap_and_has_no_latency() -> None:
    tally = Tally(0.0)
    tally.succeeded("GetOrder", due=0.0, now=1.0)
    tally.refused("GetOrder", "UNAVAILABLE: away")
    tally.refused("PlaceOrder", "UNAVAILABLE: away")

    found = tally.result(5.0)

    assert (3, 2, 4.0) == (found["requests"], found["errors"], found["worst_gap_s"])
    assert {"GetOrder": 2, "PlaceOrder": 1} == found["methods"]
    assert {"GetOrder: UNAVAILABLE: away": 1, "PlaceOrder: UNAVAILABLE: away": 1} == found["refusals"]
    assert 1000.0 == pytest.approx(found["latency_ms"]["max"], rel=0.01)


def test_a_latency_counts_from_the_moment_the_call_was_due() -> None:
    tally = Tally(0.0)
    for number in range(1000):
        tally.succeeded("GetOrder", due=0.0, now=(number + 1) / 1000)

    found = tally.result(1.0)["latency_ms"]

    assert [500.0, 990.0, 1000.0] == pytest.approx([found["p50"], found["p99"], found["max"]], rel=0.01)


def test_a_load_without_an_answer_has_no_latency() -> None:
    assert {"p50": None, "p99": None, "max": None} == Tally(0.0).result(1.0)["latency_ms"]


def test_a_window_sees_its_own_time_only() -> None:
    tally = Tally(0.0)
    tally.succeeded("GetOrder", due=0.0, now=1.0)
    window = tally.open(5.0)
    tally.succeeded("GetOrder", due=5.0, now=5.5)
    tally.refused("GetOrder", "no")

    seen = tally.close(window, 6.5)
    tally.succeeded("GetOrder", due=5.0, now=9.0)

    assert (2, 1, 1.0, 5.5) == (seen.requests, seen.errors, seen.worst_gap_s, seen.worst_gap_at_s)


def test_answers_that_come_out_of_order_make_no_gap_of_less_than_nothing() -> None:
    tally = Tally(0.0)
    for now in (2.0, 1.0, 2.5):
        tally.succeeded("GetOrder", due=0.0, now=now)

    assert 2.0 == tally.result(2.5)["worst_gap_s"]


@pytest.mark.parametrize(
    ("stock", "lost", "surplus"),
    [
        (Stock(acknowledged=2, pieces=5, unknown=0, left_stock=5), 0, 0),
        (Stock(acknowledged=2, pieces=5, unknown=2, left_stock=7), 0, 0),
        (Stock(acknowledged=2, pieces=5, unknown=2, left_stock=4), 1, 0),
        (Stock(acknowledged=2, pieces=5, unknown=1, left_stock=7), 0, 1),
    ],
)
def test_an_acknowledged_piece_that_did_not_leave_the_stock_is_lost(stock: Stock, lost: int, surplus: int) -> None:
    assert (lost, surplus) == (stock.lost, stock.surplus)


# the load itself


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "WARM_UP_S", 0.05)
    monkeypatch.setattr(run, "COOL_DOWN_S", 0.05)


@pytest.fixture
def market() -> Iterator[Market]:
    with Market() as running:
        yield running


@pytest.fixture
def mesh(market: Market, folder: Path) -> Any:
    """What a load asks of a mesh."""
    secrets = folder / "secrets"
    secrets.mkdir()
    (secrets / "operator.email").write_text("operator@example.com")
    (secrets / "operator.password").write_text("a password")
    return SimpleNamespace(gateway=market.address, secrets=secrets)


def loaded(mesh: Any, market: Market, *, reconnect: bool = False, calls: int = 60) -> UnderLoad:
    """A load that has ended, after so many calls more than its preparation took."""
    with UnderLoad(mesh, Wanted(200, reconnect=reconnect)) as load:
        goal = sum(market.calls.values()) + calls
        eventually(lambda: sum(market.calls.values()) >= goal)
    return load


def test_a_load_without_trouble_counts_every_call_and_loses_nothing(mesh: Any, market: Market) -> None:
    load = loaded(mesh, market, calls=200)

    result = load.result
    assert load.good
    assert (0, {}, {}) == (result["errors"], result["refusals"], result["repeated"])
    assert {"GetOrder", "GetProduct", "ListProducts", "PlaceOrder", "WatchOrder"} == set(result["methods"])
    assert sum(result["methods"].values()) == result["requests"]
    assert (watches.WATCHES, 2 * watches.WATCHES, 0) == (
        result["streams"]["open"],
        result["streams"]["messages"],
        result["streams"]["resumed"],
    )
    # What was acknowledged is what is gone; the watched orders were taken back.
    assert len(market.orders) == result["stock"]["acknowledged"]
    assert result["stock"]["pieces"] == result["stock"]["left_stock"] > 0
    assert {} == market.products
    assert "0 lost" in lines(result)[-1]


@pytest.mark.parametrize(
    ("service", "method"), [("identity", "GetUser"), ("analytics", "GetSales"), ("operations", "GetMesh")]
)
def test_who_is_changed_is_called(mesh: Any, market: Market, service: str, method: str) -> None:
    with UnderLoad(mesh, Wanted(200, service=service)) as load:
        eventually(lambda: market.calls[method] > 0)

    assert load.good
    assert load.result["methods"][method] > 0


def test_users_are_created_once_and_shared_by_all_loads(mesh: Any, market: Market) -> None:
    loaded(mesh, market)
    users, created = set(market.users), market.calls["CreateUser"]
    loaded(mesh, market)

    assert (users, created, 20) == (market.users, market.calls["CreateUser"], created)


def test_an_error_is_counted_as_its_caller_sees_it(mesh: Any, market: Market) -> None:
    market.fail("ListProducts", Code.INTERNAL)

    load = loaded(mesh, market, calls=100)

    result = load.result
    assert not load.good
    assert result["methods"]["ListProducts"] == result["errors"] > 0
    assert {"ListProducts: INTERNAL: as the test wants it": result["errors"]} == result["refusals"]


def test_what_the_contracts_let_a_client_repeat_is_no_error(mesh: Any, market: Market) -> None:
    # The contract has a call sent three times at most: whichever meets both of these comes through.
    faults = iter((True, True))
    market.fail("GetProduct", Code.UNAVAILABLE, when=lambda _: next(faults, False))

    load = loaded(mesh, market, calls=100)

    assert load.good
    assert market.calls["GetProduct"] > load.result["methods"]["GetProduct"]


@pytest.mark.parametrize(("reconnect", "errors"), [(True, 0), (False, 1)])
def test_a_call_that_stays_without_an_answer_is_sent_again_only_where_gateways_die(
    mesh: Any, market: Market, reconnect: bool, errors: int
) -> None:
    # gRPC sends one call five times by itself; this one needs two more.
    failed: list[str] = []

    def of_the_first(request: Any) -> bool:
        if len(failed) == 6 or (failed and failed[0] != request.request_id):
            return False
        failed.append(request.request_id)
        return True

    with UnderLoad(mesh, Wanted(100, reconnect=reconnect)) as load:
        market.fail("PlaceOrder", Code.UNAVAILABLE, when=of_the_first)
        eventually(lambda: len(failed) >= (6 if reconnect else 5))

    assert (errors, {"UNAVAILABLE": 1} if reconnect else {}) == (load.result["errors"], load.result["repeated"])
    assert (0, 0) == (load.result["stock"]["lost"], load.result["stock"]["surplus"])


def test_an_acknowledged_order_that_was_not_booked_is_found(mesh: Any, market: Market) -> None:
    market.loses = True

    load = loaded(mesh, market)

    assert (0, False) == (load.result["errors"], load.good)
    assert load.result["stock"]["lost"] > 0


def test_a_stream_that_is_cut_is_opened_again_and_goes_on(mesh: Any, market: Market) -> None:
    with UnderLoad(mesh, Wanted(50)) as load:
        eventually(lambda: market.calls["WatchOrder"] >= watches.WATCHES)
        for _ in range(2):
            opened = market.calls["WatchOrder"]
            market.cut()
            eventually(lambda opened=opened: market.calls["WatchOrder"] >= opened + watches.WATCHES)

    streams = load.result["streams"]
    assert load.good
    assert (2 * watches.WATCHES, {"UNAVAILABLE": 2 * watches.WATCHES}) == (streams["resumed"], streams["ended"])


def test_a_stream_that_is_open_and_says_nothing_is_an_error(
    mesh: Any, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "LAST_S", 0.2)
    market.silent = True

    load = loaded(mesh, market)

    assert (watches.WATCHES, False) == (load.result["errors"], load.good)
    assert any("did not tell" in reason for reason in load.result["refusals"])


def test_a_stream_that_stays_away_is_an_error(mesh: Any, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "AWAY_MAX_S", 0.1)
    monkeypatch.setattr(watches, "LAST_S", 0.2)
    with UnderLoad(mesh, Wanted(50)) as load:
        market.fail("WatchOrder", Code.UNAVAILABLE)
        market.cut()
        opened = market.calls["WatchOrder"]
        eventually(lambda: market.calls["WatchOrder"] > opened + 4 * watches.WATCHES)

    assert watches.WATCHES == load.result["errors"]


def test_tokens_are_renewed_before_they_end(mesh: Any, market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shop, "RENEW_EVERY_S", 0.02)
    client = GatewayClient.for_operator(market.address, mesh.secrets)
    with contextlib.closing(client), Shop(client, rps=10) as opened:
        user = opened.users[0]
        before = market.delegated[f"users/{user.id}"]
        user.token.renew_at = 0.0
        eventually(lambda: market.delegated[f"users/{user.id}"] > before and user.token.renew_at > 0)


def test_calls_are_due_at_fixed_moments_however_long_the_mesh_takes(
    mesh: Any, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    due: list[float] = []

    class Noting(Tally):
        def succeeded(self, method: str, *, due: float, now: float) -> None:
            super().succeeded(method, due=due, now=now)
            if method != watches.METHOD:
                noted.append(due)

    noted = due
    monkeypatch.setattr(run, "Tally", Noting)
    # Two calls may be under way: while they hang, nothing is sent.
    monkeypatch.setattr(traffic, "UNDER_WAY_MAX", 2)
    hanging, go_on = threading.Semaphore(0), threading.Event()
    market.fail("GetProduct", Code.INTERNAL, when=lambda _: (hanging.release(), go_on.wait(9), False)[2])
    with UnderLoad(mesh, Wanted(100)) as load:
        for _ in range(2):
            assert hanging.acquire(timeout=30)
        go_on.set()
        eventually(lambda: len(due) > 50)

    assert load.good
    due.sort()
    assert [0.01] * (len(due) - 1) == pytest.approx([late - early for early, late in itertools.pairwise(due)])


def test_a_load_that_breaks_off_is_an_error(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "MIX", {"FlyAway": 1})

    with UnderLoad(mesh, Wanted(10)) as load:
        pass

    assert {"load: it broke off: KeyError: 'FlyAway'": 1} == load.result["refusals"]
    assert not load.good


def test_a_load_that_cannot_sign_in_says_so_and_leaves_nothing(mesh: Any) -> None:
    (mesh.secrets / "operator.password").unlink()

    with pytest.raises(SignInError, match="operator's credentials are not readable"), UnderLoad(mesh, Wanted(10)):
        pass
    assert [] == [thread.name for thread in threading.enumerate() if thread.name.startswith("load")]
