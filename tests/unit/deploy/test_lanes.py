"""Lanes in the supervisor: what may be desired, when one is rolled back, and what is told of it."""

import asyncio
import http.server
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import lane as verbs
from deploy.supervisor import lane, lane_budget, lane_watch
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.exposition import Snapshot, expose
from deploy.supervisor.lane import LaneSpec
from deploy.supervisor.lane_budget import Count, Window
from deploy.supervisor.lanes import Lanes, Surroundings
from deploy.supervisor.messages import Process, Scaled
from weft_protos import lanes

PLACE = "weft.orders.v1.OrderService/PlaceOrder"
SPEC = LaneSpec(("orders",), percent=5.0)


def test_what_is_desired_of_lanes_is_read_as_it_was_written(tmp_path: Path) -> None:
    wanted = Desired().with_lane("canary", replace(SPEC, env={"A": "1"}, claim="sub", value="x"))
    wanted.write(tmp_path / "desired.json")

    assert wanted == Desired.read(tmp_path / "desired.json")
    assert wanted.lanes["canary"] == lane.of(json.loads(json.dumps(asdict(wanted.lanes["canary"]))))


@pytest.mark.parametrize(
    ("name", "spec", "complaint"),
    [
        ("Canary", SPEC, "is not a lane"),
        ("canary", replace(SPEC, services=("relay",)), "relay cannot have a lane"),
        ("canary", replace(SPEC, services=("orders", "nobody")), "nobody cannot have a lane"),
        ("worker", replace(SPEC, services=("analytics",)), "cannot be called worker"),
        ("canary", replace(SPEC, instances=9), "give 1 to 8"),
        ("canary", replace(SPEC, instances=0), "give 1 to 8"),
        ("canary", replace(SPEC, percent=101.0), "not a percentage"),
        ("canary", replace(SPEC, env={"WEFT_ETCD": "x"}), "is the supervisor's to set"),
        ("canary", replace(SPEC, checkout="/nowhere"), "no clone of the project"),
    ],
)
def test_a_lane_that_cannot_be_is_refused(name: str, spec: LaneSpec, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Desired().with_lane(name, spec)


def test_a_lane_is_started_once_shifted_rolled_back_and_ended() -> None:
    desired = Desired().with_lane("canary", SPEC)
    with pytest.raises(ConfigError, match="there is a lane canary already"):
        desired.with_lane("canary", SPEC)
    assert 25.0 == desired.with_share("canary", 25.0).lanes["canary"].percent
    with pytest.raises(ConfigError, match="not a percentage"):
        desired.with_share("canary", 200.0)

    rolled_back = desired.with_lane_rolled_back("canary", "it failed")
    assert not rolled_back.lanes["canary"].routing("canary").is_open
    with pytest.raises(ConfigError, match="was rolled back: it failed"):
        rolled_back.with_share("canary", 1.0)

    assert Desired() == rolled_back.without_lane("canary")
    with pytest.raises(ConfigError, match="no lane is called canary; there is none"):
        Desired().without_lane("canary")


def counts(calls: float, faults: float) -> dict[str, Count]:
    return {PLACE: Count(calls, faults)}


@pytest.mark.parametrize(
    ("in_lane", "stable", "burns"),
    [
        (counts(10, 10), counts(100, 0), True),
        (counts(4, 4), counts(100, 0), False),  # too few to judge
        (counts(1000, 5), counts(1000, 0), False),  # within what 0.1 % of objective lets burn
        (counts(1000, 15), counts(1000, 0), True),
        (counts(100, 60), counts(100, 40), False),  # an outage of what both stand on
        (counts(100, 90), counts(100, 40), True),
        ({}, counts(100, 100), False),
        ({PLACE: Count(10_000, 0), "other": Count(5, 5)}, {}, True),  # judged method by method
    ],
)
def test_a_lane_burns_its_budget_where_it_fails_more_than_the_stable_instances(
    in_lane: dict[str, Count], stable: dict[str, Count], burns: bool
) -> None:
    assert burns == bool(lane_budget.burns(in_lane, stable, {PLACE: 0.001}))


def test_a_loose_objective_lets_more_fail() -> None:
    assert lane_budget.burns(counts(100, 30), {}, {PLACE: 0.001})
    assert not lane_budget.burns(counts(100, 30), {}, {PLACE: 0.05})


def test_a_window_counts_what_is_new_in_each_place_and_forgets_it() -> None:
    window = Window()
    window.take(0.0, {"gateway-1": counts(1000, 1000)})
    assert {} == window.counts()

    window.take(1.0, {"gateway-1": counts(1010, 1002), "gateway-2": counts(7, 7)})
    window.take(2.0, {"gateway-2": counts(8, 8)})
    assert counts(11, 3) == window.counts()

    window.take(3.0, {"gateway-1": counts(4, 1)})  # began anew
    assert counts(15, 4) == window.counts()

    window.take(2.0 + lane_budget.WINDOW_S, {})
    assert counts(4, 1) == window.counts()


EXPOSITION = f"""\
# TYPE envoy_weft_calls_total counter
envoy_weft_calls_total{{method="{PLACE}",http_status="200",grpc_status="0",reason="",lane=""}} 90
envoy_weft_calls_total{{method="{PLACE}",http_status="200",grpc_status="14",reason="",lane=""}} 1
envoy_weft_calls_total{{method="{PLACE}",http_status="200",grpc_status="13",reason="",lane="canary"}} 5
envoy_weft_calls_total{{method="{PLACE}",http_status="503",grpc_status="",reason="",lane="canary"}} 2
envoy_weft_calls_total{{method="{PLACE}",http_status="404",grpc_status="",reason="",lane="canary"}} 3
envoy_weft_calls_total{{method="",http_status="404",grpc_status="",reason="",lane=""}} 9
envoy_weft_call_duration_ms_bucket{{method="{PLACE}",lane="canary",le="5"}} 2
envoy_weft_call_duration_ms_bucket{{method="{PLACE}",lane="canary",le="+Inf"}} 4
"""


def test_a_gateways_figures_are_read_by_lane_and_faults_counted_as_objectives_count_them() -> None:
    found = lane_watch.of_gateway(EXPOSITION)

    assert counts(91, 1) == found[""].counts
    assert counts(10, 7) == found["canary"].counts
    assert {5.0: 2.0, float("inf"): 4.0} == found["canary"].buckets


def test_an_instances_figures_are_read_by_method() -> None:
    lines = [
        f'weft_rpc_requests_total{{service="orders",method="{PLACE}",code="{code}"}} {value}'
        for code, value in (("OK", 5.0), ("INTERNAL", 2.0), ("NOT_FOUND", 1.0))
    ]

    assert counts(8, 2) == lane_watch.of_instance("\n".join(lines))


def test_objectives_of_the_contracts_are_the_budgets() -> None:
    assert 0 < lane_watch.budgets()[PLACE] < 0.05


def test_latencies_come_from_buckets_and_are_none_without_calls() -> None:
    buckets = {"1": 0.0, "5": 50.0, "10": 100.0, "inf": 100.0}

    assert 5.0 == verbs.quantile(buckets, 0.5)
    assert 9.9 == verbs.quantile(buckets, 0.99)
    assert 10.0 == verbs.quantile({"10": 1.0, "inf": 5.0}, 0.99)
    assert verbs.quantile({"1": 0.0, "inf": 0.0}, 0.5) is None
    assert verbs.quantile({}, 0.5) is None


def test_what_is_watched_begins_with_the_watching() -> None:
    before = {"calls": 10.0, "faults": 1.0, "buckets": {"1": 4.0, "inf": 10.0}}
    after = {"calls": 15.0, "faults": 1.0, "buckets": {"1": 4.0, "inf": 15.0}}
    seen = verbs.difference(before, after)

    assert {"calls": 5.0, "faults": 0.0, "buckets": {"1": 0.0, "inf": 5.0}} == seen
    lines = verbs.table([("canary", seen), ("stable", verbs.difference(before, before))])
    assert ["canary", "5", "0", "1.0", "1.0"] == lines[1].split()
    assert ["stable", "0", "0", "-", "-"] == lines[2].split()


def test_whether_a_lane_was_rolled_back_is_exposed() -> None:
    text = expose(Snapshot([], {}, {"canary": True, "blue": False})).decode()

    assert 'weft_lane_rolled_back{lane="canary"} 1.0' in text
    assert 'weft_lane_rolled_back{lane="blue"} 0.0' in text


@dataclass
class Supervised:
    """A supervisor's part in lanes, as far as lanes go by it."""

    metrics_port: int
    desired: Desired = field(default_factory=Desired)
    state: str = "ready"
    quarantined: bool = False
    fails: bool = False
    told_at_change: list[str] = field(default_factory=list)
    told: Path = Path()

    async def change(self, change: Callable[[Desired], Desired]) -> Scaled:
        desired = change(self.desired)
        self.told_at_change.append(self.told.read_text() if self.told.exists() else "")
        if self.fails:
            raise ConfigError("orders-canary-1: does not come up")
        before, self.desired = self.desired, desired
        return Scaled(
            *(tuple(each.lanes.keys() - other.lanes.keys()) for each, other in ((desired, before), (before, desired)))
        )

    def processes(self) -> list[Process]:
        return [
            Process(
                f"orders-{name}-1",
                "service",
                f"orders@{name}",
                1,
                "",
                self.state,
                0,
                "",
                "member",
                self.quarantined,
                "exit 1",
            )
            for name, spec in self.desired.lanes.items()
            if not spec.rolled_back
        ]

    def lanes(self, environ: Mapping[str, str]) -> Lanes:
        around = Surroundings(
            desired=lambda: self.desired,
            change=self.change,
            processes=self.processes,
            metrics_port=lambda _: self.metrics_port,
            admin=lambda name: self.told.with_name(name),
            environ=lambda: environ,
        )
        return Lanes(around, self.told)


@contextmanager
def exposing(text: Callable[[], str]) -> Iterator[int]:
    """An instance's metrics, at a port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = text().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def answered(ok: int, failed: int) -> str:
    return "\n".join(
        f'weft_rpc_requests_total{{service="orders",method="{PLACE}",code="{code}"}} {value}'
        for code, value in (("OK", ok), ("INTERNAL", failed))
    )


def test_an_instance_that_fails_or_dies_again_and_again_rolls_its_lane_back(tmp_path: Path) -> None:
    failed = [0]

    async def scenario(port: int) -> list[dict[str, str]]:
        supervised = Supervised(port, told=tmp_path / "lanes.json")
        supervised.desired = Desired().with_lane("canary", SPEC)
        kept = supervised.lanes({})
        looks = [await kept.look()]
        failed[0] = 20
        looks.append(await kept.look())
        failed[0] = 0
        kept = supervised.lanes({})
        supervised.quarantined = True
        looks.append(await kept.look())
        return looks

    with exposing(lambda: answered(5, failed[0])) as port:
        calm, burning, dying = asyncio.run(scenario(port))

    assert {} == calm
    assert "20 of 20 calls" in burning["canary"]
    assert "orders-canary-1 dies again and again, last: exit 1" == dying["canary"]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Where `python -m lb` finds a registry."""
    from tests.unit.lb.fake_etcd import FakeEtcd

    etcd = FakeEtcd()
    yield {"WEFT_ETCD": etcd.address, "PATH": ""}
    etcd.close()


def test_a_lane_is_declared_before_its_instances_start_opens_when_they_are_ready_and_is_forgotten_at_its_end(
    tmp_path: Path, registry: Mapping[str, str]
) -> None:
    supervised = Supervised(1, told=tmp_path / "lanes.json")

    def told() -> list[tuple[str, bool]]:
        return [(each.name, each.is_open) for each in lanes.from_bytes(supervised.told.read_bytes())]

    async def scenario() -> None:
        kept = supervised.lanes(registry)
        await kept.start("canary", SPEC)
        assert [("canary", True)] == told()
        await kept.shift("canary", 0.0)
        assert [("canary", False)] == told()
        await kept.shift("canary", 50.0)
        await kept.roll_back("canary", "it failed")
        assert [("canary", False)] == told()
        described = kept.describe()[0]
        assert ("rolled-back", "it failed", []) == tuple(described[key] for key in ("state", "reason", "instances"))
        await kept.end("canary")
        assert [] == told()
        supervised.fails = True
        with pytest.raises(ConfigError, match="does not come up"):
            await kept.start("blue", SPEC)
        assert [] == told()

    asyncio.run(scenario())

    assert [False, True, False, False, False, False] == [
        any(lane.is_open for lane in lanes.from_bytes(text.encode())) for text in supervised.told_at_change
    ]


def test_what_the_registry_did_not_take_is_told_again(tmp_path: Path, registry: Mapping[str, str]) -> None:
    supervised = Supervised(1, told=tmp_path / "lanes.json")
    supervised.desired = Desired().with_lane("canary", SPEC)

    async def until_told() -> None:
        kept = asyncio.create_task(supervised.lanes(registry).run())
        async with asyncio.timeout(60):
            while not supervised.told.exists():
                await asyncio.sleep(0.05)
        kept.cancel()

    asyncio.run(until_told())

    assert ("canary",) == tuple(each.name for each in lanes.from_bytes(supervised.told.read_bytes()))


def test_a_fault_on_the_way_does_not_end_the_keeping_of_lanes(tmp_path: Path, registry: Mapping[str, str]) -> None:
    supervised = Supervised(1, told=tmp_path / "lanes.json")
    supervised.desired = Desired().with_lane("canary", SPEC)
    supervised.told.mkdir()  # what control planes were told cannot be read
    looked = asyncio.Event()

    def processes() -> list[Process]:
        looked.set()
        return []

    async def scenario() -> None:
        keeper = supervised.lanes(registry)
        keeper._around = replace(keeper._around, processes=processes)
        kept = asyncio.create_task(keeper.run())
        async with asyncio.timeout(60):
            await looked.wait()  # which comes behind the telling
            supervised.told.rmdir()
            while not supervised.told.exists():
                await asyncio.sleep(0.05)
        kept.cancel()

    asyncio.run(scenario())

    assert ("canary",) == tuple(each.name for each in lanes.from_bytes(supervised.told.read_bytes()))
