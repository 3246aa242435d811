"""Limits over the fleet of gateways at a running mesh: how much is let through, and how a client lives with it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import grpc

from tests.integration.edge_calls import EXHAUSTED, OK, TIMEOUT_S, Edge, Native, Target, method
from tests.integration.edge_calls import edge as edge
from tests.waiting import eventually
from weft.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from weft_protos import client_config, policy

SALES: Final = Target.of(method("GetSales"), analytics_pb2.GetSalesRequest())
LIMIT: Final = policy.effective(method("GetSales")).rate_limit
GATEWAYS: Final = ("gateway-1", "gateway-2")
#: Of a share that is not whole each gateway may round up.
ROUNDING: Final = len(GATEWAYS)
#: So many that the kernel gives some to each gateway.
CONNECTIONS: Final = 12
#: Of each connection: together many times the burst, so that a slow machine cannot refill the buckets meanwhile.
CALLS: Final = 10 * LIMIT.burst // CONNECTIONS


@contextmanager
def connections(edge: Edge) -> Iterator[list[Native]]:
    opened = [Native(edge.address) for _ in range(CONNECTIONS)]
    yield opened
    for one in opened:
        one.close()


def burst(edge: Edge, token: str) -> tuple[int, int, float]:
    """One caller calls as fast as it can: calls let through, calls limited, and what was refilled meanwhile."""

    def run(connection: Native) -> list[int]:
        return [connection.call(SALES, token).code for _ in range(CALLS)]

    with connections(edge) as opened, ThreadPoolExecutor(CONNECTIONS) as pool:
        began = time.monotonic()
        codes = [code for found in pool.map(run, opened) for code in found]
        took_s = time.monotonic() - began
    assert {OK, EXHAUSTED} >= set(codes)
    refilled = took_s * LIMIT.requests / LIMIT.per.ToTimedelta().total_seconds()
    return codes.count(OK), codes.count(EXHAUSTED), refilled


def test_all_gateways_together_let_through_what_the_contract_says(edge: Edge) -> None:
    edge.mesh.wait_ready()

    through, limited, refilled = burst(edge, edge.token(user=edge.new_user()))

    assert limited > 0
    assert LIMIT.burst // len(GATEWAYS) <= through <= LIMIT.burst + refilled + ROUNDING


def test_whoever_is_left_of_the_gateways_keeps_the_limit(edge: Edge) -> None:
    restarts = edge.mesh.status().process(GATEWAYS[1]).restarts
    edge.mesh.kill(GATEWAYS[1])

    through, limited, refilled = burst(edge, edge.token(user=edge.new_user()))

    # Until the death is known the one that is left has its share; afterwards, all of it. The one that comes back
    # knows nothing of who has called already.
    assert limited > 0
    assert LIMIT.burst // len(GATEWAYS) <= through
    assert through <= LIMIT.burst + LIMIT.burst // len(GATEWAYS) + refilled + ROUNDING
    eventually(lambda: edge.mesh.status().process(GATEWAYS[1]).restarts > restarts)
    edge.mesh.wait_ready()


def test_a_throttled_client_waits_and_succeeds(edge: Edge) -> None:
    token = edge.token(user=edge.new_user())
    metadata = (("authorization", f"Bearer {token}"),)
    options = (*client_config.options(), ("grpc.use_local_subchannel_pool", 1))

    with grpc.insecure_channel(edge.address, options=options) as channel:
        stub = analytics_pb2_grpc.AnalyticsServiceStub(channel)
        assert burst(edge, token)[1] > 0
        for _ in range(LIMIT.burst):
            # Raises where a call is refused for good.
            stub.GetSales(analytics_pb2.GetSalesRequest(), metadata=metadata, timeout=TIMEOUT_S)
