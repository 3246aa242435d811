"""A process from start to end: found only when ready, and gone without a failed call."""

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2

from lb.credentials import Credentials, asks_for
from lb.endpoint import Endpoint
from lb.registry.departure import Departure
from svc.chassis import lifecycle, resources
from svc.chassis.clock import SystemClock
from svc.chassis.config import Address, Settings, install_control_planes
from svc.chassis.lifecycle import Background, Resources, Stop, run_worker, serve
from svc.chassis.server import Server, Service
from tests.identities import Identities
from tests.unit.svc.chassis.instance import INVENTORY, Behaviour, Issuer, eventually
from tests.waiting import free_port
from weft_protos import identity, usage


class Registry:
    """Stands in for lb.registry.agent.Agent: the registry of one process, in memory."""

    current: "Registry"

    def __init__(self, _settings: object, **_callbacks: object) -> None:
        Registry.current = self
        self.endpoints: list[Endpoint] = []
        self.watched: dict[str, Callable[[bytes], None]] = {}
        self.published: dict[str, bytes] = {}
        self.on_leave: Callable[[], None] = lambda: None
        self.stopped = False

    def start(self) -> None:
        return None

    def watch(self, name: str, callback: Callable[[bytes], None]) -> None:
        self.watched[name] = callback

    def publish(self, name: str, value: bytes) -> None:
        self.published[name] = value

    def register(self, endpoint: Endpoint) -> None:
        self.endpoints.append(endpoint)

    def wait_registered(self, timeout: float) -> bool:
        return bool(self.endpoints)

    def depart(
        self, endpoint: Endpoint, *, confirm_s: float, acknowledge_s: float, hurried: threading.Event
    ) -> Departure:
        self.on_leave()
        self.endpoints.remove(endpoint)
        return Departure(confirmed=True)

    def stop(self, timeout: float) -> None:
        self.stopped = True


@dataclass
class Running:
    """A process in a thread of the test."""

    run: Callable[[Stop], int]
    stop: Stop = field(default_factory=Stop)
    code: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=lambda: self.code.append(self.run(self.stop)))
        self.thread.start()

    def end(self) -> int:
        self.stop.ask()
        return self.wait()

    def wait(self) -> int:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.code[0]


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The port of every server that is bound, in order: settings say 0."""
    bound: list[int] = []
    bind = Server.bind

    def noting(server: Server, address: Address) -> int:
        bound.append(bind(server, address))
        return bound[-1]

    monkeypatch.setattr(Server, "bind", noting)
    return bound


@pytest.fixture(autouse=True)
def quick(environ: pytest.MonkeyPatch) -> Iterator[None]:
    environ.setattr(resources, "Agent", Registry)
    environ.setattr(lifecycle, "SETTLE_S", 0.05)
    environ.setattr(lifecycle, "ALIVE_EVERY_S", 0.02)
    environ.setenv("GRPC_XDS_BOOTSTRAP_CONFIG", "")
    yield
    structlog.reset_defaults()


def health(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        return int(health_pb2.HealthCheckResponse.FromString(check(b"", timeout=5, wait_for_ready=True)).status)


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def service(settings: Settings, **more: Callable[[Resources], None]) -> Callable[[Stop], int]:
    def build(given: Resources) -> Sequence[Service]:
        for prepare in more.values():
            prepare(given)
        return ((INVENTORY, Behaviour()),)

    return lambda stop: serve(settings, service="orders", build=build, stop=stop)


def test_an_instance_with_an_identity_is_asked_with_one_and_tells_kubelets_without(
    environ: pytest.MonkeyPatch, tmp_path: Path, ports: list[int]
) -> None:
    orders, metrics_port = identity.service("orders"), free_port()
    parts = Identities(tmp_path, orders, identity.SUPERVISOR)
    environ.setenv("WEFT_IDENTITY", str(parts.of(orders)))
    environ.setenv("WEFT_METRICS_PORT", str(metrics_port))
    own = Credentials(parts.of(identity.SUPERVISOR)).client()

    def asked() -> int:
        with grpc.secure_channel(f"127.0.0.1:{ports[0]}", own, options=[asks_for(orders)]) as channel:
            check: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
            return int(health_pb2.HealthCheckResponse.FromString(check(b"", timeout=5, wait_for_ready=True)).status)

    def shown(path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    running = Running(service(Settings.read()))
    assert eventually(lambda: len(ports) == 1)
    assert (NOT_SERVING, 503, 200) == (asked(), shown("/ready"), shown("/alive"))
    Registry.current.watched["jwks"](Issuer().jwks())

    assert eventually(lambda: shown("/ready") == 200)
    assert SERVING == asked()
    assert 0 == running.end()


def test_an_instance_whose_identity_is_not_whole_says_what_is_missing(
    environ: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("WEFT_IDENTITY", str(tmp_path))

    assert lifecycle.EXIT_CONFIG == Running(service(Settings.read())).wait()
    assert f"WEFT_IDENTITY: {tmp_path}/tls.crt: No such file" in "".join(capsys.readouterr())


def test_an_instance_is_found_once_it_can_check_tokens(settings: Settings, ports: list[int]) -> None:
    running = Running(service(settings))
    assert eventually(lambda: len(ports) == 1)
    assert (NOT_SERVING, []) == (health(ports[0]), Registry.current.endpoints)

    Registry.current.watched["jwks"](Issuer().jwks())

    assert eventually(lambda: health(ports[0]) == SERVING)
    (endpoint,) = Registry.current.endpoints
    assert ("orders", "orders-1", "127.0.0.1", ports[0]) == (
        endpoint.service,
        endpoint.instance,
        endpoint.address,
        endpoint.port,
    )
    assert 0 == running.end()


def test_an_instance_shows_its_metrics_where_it_listens_and_nowhere_else(
    environ: pytest.MonkeyPatch, ports: list[int]
) -> None:
    # In a container whoever asks for them comes from another one.
    metrics_port = free_port()
    environ.setenv("WEFT_LISTEN", "127.0.0.2:0")
    environ.setenv("WEFT_METRICS_PORT", str(metrics_port))
    running = Running(service(Settings.read()))
    assert eventually(lambda: len(ports) == 1)
    Registry.current.watched["jwks"](Issuer().jwks())

    assert eventually(lambda: len(Registry.current.endpoints) == 1)
    assert "127.0.0.2" == Registry.current.endpoints[0].address
    with urllib.request.urlopen(f"http://127.0.0.2:{metrics_port}/metrics", timeout=10) as answer:
        assert 200 == answer.status
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10)
    assert 0 == running.end()


def test_documents_are_watched_before_the_keys_and_are_not_waited_for(settings: Settings, ports: list[int]) -> None:
    running = Running(service(settings))
    assert eventually(lambda: len(ports) == 1)

    # The registry tells in this order, so an instance that has keys has the others, where there are any.
    assert ["revocations", "consumers.orders", "jwks"] == list(Registry.current.watched)
    Registry.current.watched["jwks"](Issuer().jwks())
    assert eventually(lambda: health(ports[0]) == SERVING)
    assert {} == Registry.current.published
    assert 0 == running.end()


def test_notes_of_consumers_are_added_to_those_of_the_registry_when_the_process_ends(
    settings: Settings, ports: list[int]
) -> None:
    running = Running(service(settings))
    assert eventually(lambda: len(ports) == 1)
    hour = int(SystemClock().now().timestamp()) // 3600
    before = {usage.Entry("weft.orders.v1.OrderService/GetOrder", "shop/1", "sent", "name"): hour - 3}
    Registry.current.watched["consumers.orders"](usage.encode(before, "orders", now_hour=hour))
    Registry.current.watched["jwks"](Issuer().jwks())
    assert eventually(lambda: health(ports[0]) == SERVING)

    assert 0 == running.end()

    found = usage.decode(Registry.current.published["consumers.orders"])
    assert {**before, usage.since("orders"): found[usage.since("orders")]} == found


def test_an_instance_answers_until_everyone_has_heard_that_it_leaves(settings: Settings, ports: list[int]) -> None:
    running = Running(service(settings))
    assert eventually(lambda: len(ports) == 1)
    Registry.current.watched["jwks"](Issuer().jwks())
    assert eventually(lambda: health(ports[0]) == SERVING)
    seen: list[int] = []
    Registry.current.on_leave = lambda: seen.append(health(ports[0]))

    assert 0 == running.end()

    assert [NOT_SERVING] == seen
    assert Registry.current.stopped
    with pytest.raises(AssertionError), grpc.insecure_channel(f"127.0.0.1:{ports[0]}") as channel:
        assert eventually(lambda: _connects(channel), within_s=0.2)


def _connects(channel: Any) -> bool:
    try:
        channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=0.2)
    except grpc.RpcError:
        return False
    return True


def test_an_instance_that_never_gets_keys_can_be_stopped(settings: Settings, ports: list[int]) -> None:
    running = Running(service(settings))
    assert eventually(lambda: len(ports) == 1)

    assert 0 == running.end()
    assert [] == Registry.current.endpoints


def test_backgrounds_of_a_service_start_before_the_port_opens_and_stop_after_it(
    settings: Settings, ports: list[int]
) -> None:
    seen: list[tuple[str, int]] = []

    def add(given: Resources) -> None:
        given.add_background("poller", lambda: seen.append(("start", len(ports))), lambda: seen.append(("stop", 0)))

    running = Running(service(settings, add=add))
    assert eventually(lambda: len(ports) == 1)

    assert 0 == running.end()
    assert [("start", 0), ("stop", 0)] == seen


def test_a_step_that_fails_at_the_end_does_not_keep_the_next_from_running(settings: Settings, ports: list[int]) -> None:
    def fail() -> None:
        raise RuntimeError("stuck")

    running = Running(service(settings, add=lambda given: given.add_background("poller", lambda: None, fail)))
    assert eventually(lambda: len(ports) == 1)

    assert 0 == running.end()
    assert Registry.current.stopped


def test_a_service_that_can_not_be_built_ends_with_status_1(settings: Settings) -> None:
    def fail(_given: Resources) -> None:
        raise RuntimeError("no table")

    assert 1 == Running(service(settings, fail=fail)).wait()


def test_a_missing_secret_ends_with_status_2(settings: Settings) -> None:
    def read(given: Resources) -> None:
        given.settings.secrets.cache_key()

    assert 2 == Running(service(settings, read=read)).wait()


def test_a_port_that_is_taken_ends_with_status_1(environ: pytest.MonkeyPatch, settings: Settings) -> None:
    other = grpc.server(None, options=(("grpc.so_reuseport", 0),))  # type: ignore[arg-type]
    port = other.add_insecure_port("127.0.0.1:0")
    environ.setenv("WEFT_LISTEN", f"127.0.0.1:{port}")

    assert 1 == Running(service(Settings.read())).wait()
    other.stop(0)


class Loop:
    """A worker's background."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.well = True

    def start(self) -> None:
        self.events.append("start")

    def stop(self, timeout: float) -> None:
        assert 0 < timeout
        self.events.append("stop")

    def alive(self) -> bool:
        return self.well


def worker(settings: Settings, *loops: Background) -> Callable[[Stop], int]:
    return lambda stop: run_worker(settings, name="audit", build=lambda _given: loops, stop=stop)


def test_a_worker_says_that_it_is_well_and_stops_when_asked(settings: Settings, ports: list[int]) -> None:
    loop = Loop()
    running = Running(worker(settings, loop))
    assert eventually(lambda: len(ports) == 1)
    assert eventually(lambda: health(ports[0]) == SERVING)

    assert 0 == running.end()
    assert ["start", "stop"] == loop.events


def test_a_worker_ends_with_status_1_when_a_background_dies(settings: Settings, ports: list[int]) -> None:
    first, second = Loop(), Loop()
    running = Running(worker(settings, first, second))
    assert eventually(lambda: second.events == ["start"])

    second.well = False

    assert 1 == running.wait()
    assert ["start", "stop"] == first.events


def test_a_worker_opens_nothing_it_does_not_use(settings: Settings, ports: list[int]) -> None:
    Registry.current = Registry(None)
    untouched = Registry.current
    running = Running(worker(settings))
    assert eventually(lambda: len(ports) == 1)

    assert 0 == running.end()
    assert untouched is Registry.current


def test_a_second_request_to_stop_cuts_the_linger_short() -> None:
    stop = Stop()

    stop.ask()
    assert (True, False) == (stop.asked.is_set(), stop.hurried.is_set())

    stop.ask()
    assert stop.hurried.is_set()


def test_without_a_secret_there_is_no_database(settings: Settings) -> None:
    assert Resources(settings, name="relay").database is None


def test_a_channel_is_opened_once_for_each_peer(settings: Settings) -> None:
    install_control_planes(settings, service="orders")
    given = Resources(settings, name="orders")

    assert given.channel("catalog") is given.channel("catalog")
    given.close()


WORKER = """
from svc.chassis.config import Settings
from svc.chassis.lifecycle import run_worker
raise SystemExit(run_worker(Settings.from_environ(), name="audit", build=lambda given: ()))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_in_order(environ: pytest.MonkeyPatch, number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-c", WORKER], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    events = []
    for line in process.stderr:
        events.append(json.loads(line)["event"])
        if events[-1] == "working":
            process.send_signal(number)

    assert (0, ["working", "stopping"]) == (process.wait(20), events)
    process.stderr.close()
