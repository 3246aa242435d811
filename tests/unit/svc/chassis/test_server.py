"""The server: what it refuses to start with, what it bounds, how it says that it is well, how it ends."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2

from svc.chassis import telemetry
from svc.chassis.config import Address
from svc.chassis.context import CallContext
from svc.chassis.server import MESSAGE_BYTES, QUEUE_PER_THREAD, Limits, Server
from svc.chassis.tokens import TokenVerifier
from tests.unit.svc.chassis.instance import (
    GET_STOCK,
    INVENTORY,
    SET_STOCK,
    Behaviour,
    Failure,
    Gate,
    Instance,
    StandingClock,
    eventually,
)
from weft.orders.v1 import inventory_pb2, orders_pb2
from weft_protos import grounds


def health_of(instance: Instance, service: str = "") -> str:
    check = instance.channel.unary_unary("/grpc.health.v1.Health/Check")
    request = health_pb2.HealthCheckRequest(service=service)
    answer = health_pb2.HealthCheckResponse.FromString(check(request.SerializeToString(), timeout=5))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def failing(instance: Instance, method: str, body: bytes, **options: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        instance.raw(method, body, **options)
    return caught.value


class Incomplete:
    """Serves all of InventoryService but SetStock."""

    GetStock = BatchGetStock = staticmethod(lambda _request, _call: inventory_pb2.Stock())


def make(service: ServiceDescriptor, handler: object) -> Server:
    return Server(((service, handler),), verifier=TokenVerifier(StandingClock()), limits=Limits(threads=1, streams=0))


def test_a_handler_without_a_method_of_its_contract_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Incomplete lacks weft\.orders\.v1\.InventoryService\.SetStock"):
        make(INVENTORY, Incomplete())


def test_a_method_without_a_policy_is_refused() -> None:
    file = descriptor_pb2.FileDescriptorProto(name="weft/test/v1/open.proto", package="weft.test.v1")
    file.message_type.add(name="Empty")
    file.service.add(name="Open").method.add(
        name="Do", input_type=".weft.test.v1.Empty", output_type=".weft.test.v1.Empty"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)

    with pytest.raises(ValueError, match=r"weft\.test\.v1\.Open\.Do must be public or name scopes"):
        make(pool.FindServiceByName("weft.test.v1.Open"), Behaviour())


def test_limits_must_allow_something() -> None:
    with pytest.raises(ValueError, match="at least one thread"):
        Limits(threads=0, streams=1)


def test_a_port_that_is_taken_is_refused(instance: Instance) -> None:
    second = make(INVENTORY, Behaviour())

    with pytest.raises(RuntimeError):
        second.bind(Address("127.0.0.1", instance.port))

    second.stop(0)


def test_an_unknown_method_is_unimplemented(instance: Instance) -> None:
    assert "UNIMPLEMENTED" == failing(instance, "/weft.orders.v1.InventoryService/DropStock", b"").code
    assert "UNIMPLEMENTED" == failing(instance, "/weft.secrets.v1.Secrets/Get", b"").code


def test_reflection_is_not_served_by_instances(instance: Instance) -> None:
    assert "UNIMPLEMENTED" == failing(instance, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", b"").code


def test_a_request_above_the_cap_is_refused_unread(instance: Instance) -> None:
    failed = failing(instance, SET_STOCK, b"\x0a" * (MESSAGE_BYTES + 1))

    assert "RESOURCE_EXHAUSTED" == failed.code
    assert [] == instance.behaviour.requests


def test_metadata_above_the_cap_is_refused_every_time(instance: Instance) -> None:
    body = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()
    codes = {failing(instance, GET_STOCK, body, metadata=(("x-large", "a" * 21_000),)).code for _ in range(8)}

    assert {"RESOURCE_EXHAUSTED"} == codes


def test_metadata_below_the_cap_is_taken_every_time(instance: Instance) -> None:
    for _ in range(20):
        instance.get_stock(metadata=(("x-large", "a" * 19_000),))

    assert 20 == len(instance.behaviour.calls)


def test_health_follows_readiness_for_the_process_and_each_service(instance: Instance) -> None:
    assert "NOT_SERVING" == health_of(instance)

    instance.server.serving(True)
    assert ("SERVING", "SERVING") == (health_of(instance), health_of(instance, INVENTORY.full_name))

    instance.server.serving(False)
    assert ("NOT_SERVING", "NOT_SERVING") == (health_of(instance), health_of(instance, INVENTORY.full_name))


def test_health_of_an_unknown_service_is_not_found(instance: Instance) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        health_of(instance, "weft.orders.v1.Unknown")

    assert grpc.StatusCode.NOT_FOUND == caught.value.code()


def test_a_health_watcher_is_told_of_changes(instance: Instance) -> None:
    watch = instance.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=5)
    statuses = (health_pb2.HealthCheckResponse.FromString(answer).status for answer in watch)
    assert health_pb2.HealthCheckResponse.NOT_SERVING == next(statuses)

    instance.server.serving(True)

    assert health_pb2.HealthCheckResponse.SERVING == next(statuses)
    watch.cancel()


def hold(instance: Instance, calls: int) -> tuple[Gate, list[threading.Thread]]:
    """Keep that many unary calls in their handlers."""
    gate = Gate()

    def handler(_request: Message, _call: CallContext) -> Message:
        gate.pass_through()
        return inventory_pb2.Stock(quantity=1)

    instance.behaviour.do = handler
    threads = [threading.Thread(target=instance.get_stock) for _ in range(calls)]
    for thread in threads:
        thread.start()
    assert gate.entered.wait(5)
    return gate, threads


def test_health_answers_while_every_thread_is_busy() -> None:
    instance = Instance(limits=Limits(threads=1, streams=0))
    gate, threads = hold(instance, 1)

    assert "NOT_SERVING" == health_of(instance)

    gate.open.set()
    threads[0].join(5)
    instance.close()


def test_calls_above_what_can_wait_are_refused_at_once() -> None:
    instance = Instance(limits=Limits(threads=1, streams=0))
    gate, threads = hold(instance, 1)
    body = inventory_pb2.GetStockRequest(name="stock/a").SerializeToString()
    token = (("authorization", f"Bearer {instance.issuer.token()}"),)
    waiting = [
        instance.channel.unary_unary(GET_STOCK).future(body, timeout=30, metadata=token)
        for _ in range(QUEUE_PER_THREAD + 10)
    ]

    assert eventually(lambda: sum(call.done() for call in waiting) >= 10)
    refused = [call for call in waiting if call.done()]
    assert {grpc.StatusCode.RESOURCE_EXHAUSTED} == {call.code() for call in refused}
    assert {"OVERLOADED"} == {Failure(call).reason for call in refused}
    assert {"1"} == {Failure(call).trailers.get(grounds.OVERLOADED_MARK) for call in refused}

    gate.open.set()
    threads[0].join(5)
    assert [] == [call for call in waiting if call.exception(timeout=10) is None and call.code().name != "OK"]
    instance.close()


def test_a_fault_of_an_interceptor_says_nothing_either(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(_header: str) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(telemetry, "parse_traceparent", parse)

    failed = failing(instance, GET_STOCK, b"")

    assert ("INTERNAL", "internal error") == (failed.code, failed.message)
    assert "hunter2" not in str(failed.status)


def two_answers(gate: Gate) -> Any:
    def watch(_request: Message, _call: CallContext) -> Iterator[Message]:
        yield orders_pb2.WatchOrderResponse()
        gate.pass_through()
        yield orders_pb2.WatchOrderResponse()

    return watch


def test_a_stream_sends_its_answers_and_ends_well(instance: Instance) -> None:
    gate = Gate()
    gate.open.set()
    instance.behaviour.watch = two_answers(gate)

    stream = instance.watch()

    assert 2 == len(list(stream))
    assert grpc.StatusCode.OK == stream.code()


def test_an_error_in_a_stream_has_its_details(instance: Instance) -> None:
    def watch(_request: Message, _call: CallContext) -> Iterator[Message]:
        yield orders_pb2.WatchOrderResponse()
        raise RuntimeError("password=hunter2")

    instance.behaviour.watch = watch
    stream = instance.watch()
    next(stream)

    with pytest.raises(grpc.RpcError) as caught:
        next(stream)

    failed = Failure(caught.value)  # type: ignore[arg-type]
    assert ("INTERNAL", "internal error") == (failed.code, failed.message)
    assert "hunter2" not in str(failed.status)


def test_a_stream_above_the_budget_is_refused_and_unary_calls_go_on() -> None:
    instance = Instance(limits=Limits(threads=1, streams=2))
    gate = Gate()
    instance.behaviour.watch = two_answers(gate)
    open_streams = [instance.watch() for _ in range(2)]
    for stream in open_streams:
        next(stream)

    with pytest.raises(grpc.RpcError) as caught:
        next(instance.watch())
    failed = Failure(caught.value)  # type: ignore[arg-type]
    assert ("RESOURCE_EXHAUSTED", "STREAM_BUDGET_EXHAUSTED") == (failed.code, failed.reason)
    (violation,) = failed.detail(error_details_pb2.QuotaFailure).violations
    assert ("instance", "2 open streams") == (violation.subject, violation.description)
    assert "2000" == failed.trailers["grpc-retry-pushback-ms"]
    assert 7 == instance.get_stock().quantity

    gate.open.set()
    assert [1, 1] == [len(list(stream)) for stream in open_streams]
    assert 2 == len(list(instance.watch()))
    instance.close()


def test_the_place_of_a_cancelled_stream_is_free_again() -> None:
    instance = Instance(limits=Limits(threads=1, streams=1))
    ended = threading.Event()

    def watch(_request: Message, call: CallContext) -> Iterator[Message]:
        pause = threading.Event()
        try:
            yield orders_pb2.WatchOrderResponse()
            while call.is_active():
                pause.wait(0.01)
        finally:
            ended.set()

    instance.behaviour.watch = watch
    stream = instance.watch()
    next(stream)
    stream.cancel()
    assert ended.wait(5)

    instance.behaviour.watch = lambda _request, _call: iter([orders_pb2.WatchOrderResponse()])
    assert eventually(lambda: answers(instance) == 1)
    instance.close()


def answers(instance: Instance) -> int:
    try:
        return len(list(instance.watch()))
    except grpc.RpcError:
        return 0


def test_a_stopping_server_finishes_unary_calls() -> None:
    instance = Instance()
    gate, threads = hold(instance, 2)
    ended: list[bool] = []
    stopping = threading.Thread(target=lambda: ended.append(instance.server.stop(5)))
    stopping.start()

    gate.open.set()

    stopping.join(10)
    for thread in threads:
        thread.join(5)
    assert ([True], 2) == (ended, len(instance.behaviour.calls))
    instance.channel.close()


def test_a_stopping_server_sends_streams_elsewhere() -> None:
    instance = Instance()

    def watch(_request: Message, call: CallContext) -> Iterator[Message]:
        yield orders_pb2.WatchOrderResponse()
        pause = threading.Event()
        while call.is_active():
            pause.wait(0.01)

    instance.behaviour.watch = watch
    stream = instance.watch()
    next(stream)

    assert instance.server.stop(5)

    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    failed = Failure(caught.value)  # type: ignore[arg-type]
    assert ("UNAVAILABLE", "DRAINING") == (failed.code, failed.reason)
    instance.channel.close()


def test_a_stopped_server_says_which_handlers_ignored_it() -> None:
    instance = Instance()
    gate, threads = hold_without_end(instance)

    assert not instance.server.stop(0.1)

    gate.open.set()
    for thread in threads:
        thread.join(5)
    instance.channel.close()


def hold_without_end(instance: Instance) -> tuple[Gate, list[threading.Thread]]:
    gate = Gate()

    def handler(_request: Message, _call: CallContext) -> Message:
        gate.pass_through()
        return inventory_pb2.Stock()

    instance.behaviour.do = handler

    def ask() -> None:
        with pytest.raises(Failure):
            instance.get_stock()

    thread = threading.Thread(target=ask)
    thread.start()
    assert gate.entered.wait(5)
    return gate, [thread]
