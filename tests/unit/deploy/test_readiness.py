"""The health probe against a server in this process."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from deploy.supervisor.probe import Answer, NoAnswerError
from deploy.supervisor.readiness import LIVENESS, GrpcHealth, Shown
from lb.credentials import Credentials
from tests.identities import Identities
from weft_protos import identity

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@contextmanager
def serving(
    status: health_pb2.HealthCheckResponse.ServingStatus,
    *,
    liveness: health_pb2.HealthCheckResponse.ServingStatus | None = None,
    calls_max: int | None = None,
    credentials: grpc.ServerCredentials | None = None,
) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(1), maximum_concurrent_rpcs=calls_max)
    servicer = health.HealthServicer()
    servicer.set("", status)
    if liveness is not None:
        servicer.set(LIVENESS, liveness)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def ask(address: str, shown: Shown | None = None) -> Answer:
    async def check() -> Answer:
        probe = GrpcHealth(address, shown)
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


def test_a_server_of_encrypted_hops_is_asked_with_a_certificate_and_taken_for_nobody_else(tmp_path: Path) -> None:
    orders = identity.service("orders")
    parts = Identities(tmp_path, orders, identity.SUPERVISOR)
    own = parts.of(identity.SUPERVISOR)
    with serving(SERVING, credentials=Credentials(parts.of(orders)).server()) as address:
        assert Answer.READY == ask(address, Shown(own, orders.dns))
        parts.renew()
        assert Answer.READY == ask(address, Shown(own, orders.dns))
        for shown in (None, Shown(own, identity.service("catalog").dns), Shown(tmp_path / "nowhere", orders.dns)):
            with pytest.raises(NoAnswerError):
                ask(address, shown)
