"""How often one address may try to sign in: as often as the contract says, whatever wire it takes, and no oftener.

Each burst comes from an address of its own, so that nobody else who signs in from this machine is refused. What is let
through breaks its contract: no password is hashed, and no failure is counted.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import pytest
from google.rpc import error_details_pb2

from tests.integration.edge_calls import EXHAUSTED, HTTP, INVALID, Answer, Edge, Json, Target, Web, method
from tests.integration.edge_calls import edge as edge
from tests.raw_call import trailers
from tests.waiting import eventually
from weft.identity.v1 import identity_pb2
from weft_protos import grounds, policy

pytestmark = pytest.mark.calls

SIGN_IN: Final = Target.of(method("CreateSession"), identity_pb2.CreateSessionRequest())
LIMIT: Final = policy.effective(method("CreateSession")).rate_limit
#: To be let through, all of these would need half a minute.
CALLS: Final = 600
CALLERS: Final = 8


def grpc_call(address: str) -> Answer:
    """From 127.0.0.77: gRPC's own client cannot be told where to call from."""
    return Web.refusal(200, trailers(address, SIGN_IN.path, SIGN_IN.body, source="127.0.0.77"))


def json_call(address: str) -> Answer:
    """From 127.0.0.78."""
    with closing(Json(address, source="127.0.0.78")) as wire:
        return wire.call(SIGN_IN)


def burst(call: Callable[[str], Answer], address: str) -> tuple[list[Answer], float]:
    """The answers to many calls, each on a connection of its own, and how many seconds they took."""
    began = time.monotonic()
    with ThreadPoolExecutor(CALLERS) as callers:
        answers = list(callers.map(lambda _: call(address), range(CALLS)))
    return answers, time.monotonic() - began


@pytest.mark.parametrize("call", [grpc_call, json_call])
def test_one_address_tries_to_sign_in_as_often_as_the_contract_says(edge: Edge, call: Callable[[str], Answer]) -> None:
    gateways = sum(process.kind == "gateway" for process in edge.mesh.status().processes)

    answers, seconds = burst(call, edge.address)

    passed = [answer for answer in answers if answer.code == INVALID]
    refused = [answer for answer in answers if answer.code == EXHAUSTED]
    print(f"\n{len(passed)} of {CALLS} attempts in {seconds:.2f} s were let through by {gateways} gateways")
    assert CALLS == len(passed) + len(refused)
    # A connection meets one of the gateways, each of which has its part; and tokens come back while this goes on.
    most = LIMIT.burst + LIMIT.requests * (1 + seconds / LIMIT.per.ToTimedelta().total_seconds()) + gateways
    assert LIMIT.burst // gateways <= len(passed) <= most
    assert {"identity"} == {answer.detail(error_details_pb2.ErrorInfo).metadata["hop"] for answer in passed}
    assert refused
    for answer in refused:
        info = answer.detail(error_details_pb2.ErrorInfo)
        (violation,) = answer.detail(error_details_pb2.QuotaFailure).violations
        rule = grounds.rate_limit(LIMIT.requests, LIMIT.per.ToTimedelta().total_seconds())
        assert ("RATE_LIMITED", "gateway", rule) == (info.reason, info.metadata["hop"], info.metadata["rule"])
        assert "address" == violation.subject.partition(":")[0]
        assert answer.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
        assert answer.http in (200, HTTP[EXHAUSTED])
    # Who waits is let in again.
    eventually(lambda: call(edge.address).code == INVALID)
