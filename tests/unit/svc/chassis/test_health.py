"""Three voices of health: does work go on, does the process take calls, does what it depends on answer."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY

from svc.chassis import workers
from svc.chassis.context import CallContext
from svc.chassis.criticality import Criticality
from svc.chassis.health import LIVENESS, DeepChecks, Liveness
from svc.chassis.load import Meter
from svc.chassis.server import Limits
from svc.chassis.workers import Workers
from tests.unit.svc.chassis.instance import GET_STOCK, Gate, Instance, eventually
from weft.orders.v1 import inventory_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
STOCK = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Holds every handler until the test lets it go."""
    held = Gate()
    yield held
    held.open.set()


@pytest.fixture
def instance(gate: Gate) -> Iterator[Instance]:
    made = Instance(limits=Limits(threads=1, streams=0))

    def handle(_request: Message, _call: CallContext) -> Message:
        gate.pass_through()
        return inventory_pb2.Stock()

    made.behaviour.do = handle
    made.server.serving(True)
    yield made
    gate.open.set()
    made.close()


def ask(instance: Instance, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(instance.channel)
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)


def call(instance: Instance, *, timeout: float) -> "grpc.Future[bytes]":
    token = ("authorization", f"Bearer {instance.issuer.token()}")
    return instance.channel.unary_unary(GET_STOCK).future(STOCK, timeout=timeout, metadata=(token,))


def test_a_process_that_is_busy_lives(instance: Instance, gate: Gate) -> None:
    busy = call(instance, timeout=30)
    assert gate.entered.wait(10)

    assert SERVING == ask(instance, LIVENESS)
    gate.open.set()
    busy.result(10)


def test_threads_that_have_all_missed_their_deadlines_are_stuck_until_one_comes_back(
    instance: Instance, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "OVERDUE_S", 0.1)
    late = call(instance, timeout=0.5)
    assert gate.entered.wait(10)
    with pytest.raises(grpc.RpcError):
        late.result(10)

    assert eventually(lambda: ask(instance, LIVENESS) == NOT_SERVING)
    # It says nothing of readiness, which is another question.
    assert SERVING == ask(instance, "")
    gate.open.set()
    assert eventually(lambda: ask(instance, LIVENESS) == SERVING)


def test_one_thread_that_comes_back_is_enough() -> None:
    pool = Workers(2, places=4, name="two", meter=Meter(2))
    stuck, entered = threading.Event(), threading.Event()
    pool.start()
    pool.lane(Criticality.DEFAULT).submit(lambda: (entered.set(), stuck.wait(30)))
    assert entered.wait(10)
    pool._over_at = [0.0, 0.0]
    assert not pool.turn()
    pool._over_at = [0.0, float("inf")]
    assert pool.turn()
    stuck.set()
    pool.shutdown()


def test_a_pool_that_has_not_begun_or_has_ended_is_not_stuck() -> None:
    pool = Workers(1, places=1, name="one", meter=Meter(1))
    assert pool.turn()
    pool.start()
    pool.shutdown()
    assert pool.turn()


def test_work_that_was_done_and_calls_that_wait_are_counted(instance: Instance, gate: Gate) -> None:
    before = REGISTRY.get_sample_value("weft_rpc_busy_seconds_total") or 0.0
    first = call(instance, timeout=30)
    assert gate.entered.wait(10)
    second = call(instance, timeout=30)
    assert eventually(lambda: REGISTRY.get_sample_value("weft_rpc_waiting") == 1.0)
    gate.open.set()
    for each in (first, second):
        each.result(10)

    assert eventually(lambda: (REGISTRY.get_sample_value("weft_rpc_busy_seconds_total") or 0.0) > before)
    assert 1.0 == REGISTRY.get_sample_value("weft_rpc_threads")


def test_any_witness_can_say_that_work_has_stopped() -> None:
    liveness, turning = Liveness(), [True, True]
    liveness.add("one", lambda: turning[0])
    liveness.add("two", lambda: turning[1])

    assert liveness.goes_on()
    turning[1] = False
    assert not liveness.goes_on()


def test_what_does_not_answer_is_a_figure_and_nothing_else(instance: Instance) -> None:
    checks = DeepChecks()

    def broken() -> object:
        raise ConnectionRefusedError

    checks.add("database", broken)
    checks.add("broker", lambda: False)
    checks.add("cache", lambda: None)
    checks.ask()

    names = ("database", "broker", "cache")
    assert [0.0, 0.0, 1.0] == [REGISTRY.get_sample_value("weft_dependency_up", {"dependency": name}) for name in names]
    assert [SERVING, SERVING] == [ask(instance, ""), ask(instance, LIVENESS)]
