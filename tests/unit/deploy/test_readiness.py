"""The health probe against a server in this process."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.supervisor.probe import Answer, NoAnswerError
from deploy.supervisor.readiness import LIVENESS, GrpcHealth

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def serving(
    status: health_pb2.HealthCheckResponse.ServingStatus,
    *,
    liveness: health_pb2.HealthCheckResponse.ServingStatus | None = None,
    calls_max: int | None = None,
) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=calls_max)
    servicer = health.HealthServicer()
    servicer.set("", status)
    if liveness is not None:
        servicer.set(LIVENESS, liveness)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def ask(address: str) -> Answer:
    async def check() -> Answer:
        probe = GrpcHealth(address)
        try:
            return await probe.check()
        finally:
            await probe.close()

    return asyncio.run(check())


@pytest.mark.parametrize(("status", "expected"), [(SERVING, Answer.READY), (NOT_SERVING, Answer.REFUSING)])
def test_what_a_server_says_of_itself_is_the_answer(
    status: health_pb2.HealthCheckResponse.ServingStatus, expected: Answer
) -> None:
    with serving(status) as address:
        assert expected == ask(address)


def test_a_server_that_is_full_is_not_taken_for_hung() -> None:
    with serving(SERVING, calls_max=0) as address:
        assert Answer.READY == ask(address)


def test_a_process_whose_work_has_stopped_is_as_good_as_silent() -> None:
    with serving(SERVING, liveness=NOT_SERVING) as address, pytest.raises(NoAnswerError, match="does no work any more"):
        ask(address)


def test_a_process_that_works_is_asked_whether_it_is_ready() -> None:
    with serving(NOT_SERVING, liveness=SERVING) as address:
        assert Answer.REFUSING == ask(address)


def test_a_server_that_is_not_there_gives_no_answer() -> None:
    with serving(SERVING) as address:
        pass

    with pytest.raises(NoAnswerError, match="UNAVAILABLE"):
        ask(address)
