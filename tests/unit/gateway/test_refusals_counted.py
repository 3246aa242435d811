"""A bare Envoy counts what it refuses by reason and method, and lets no caller make a series of its own."""

import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator

import pytest

from gateway.envoy import calls, names
from gateway.envoy.edge import Edge
from tests.integration.edge_calls import OK, UNAUTHENTICATED, Json, Native, Target, Web, method
from tests.waiting import eventually
from weft.identity.v1 import identity_pb2
from weft.orders.v1 import orders_pb2

from .bare_envoy import BareEnvoy, running

_SERIES = re.compile(rf"^{calls.CALLS}\{{(.*)\}} (\d+)$", re.MULTILINE)


@pytest.fixture
def envoy(descriptors: bytes) -> Iterator[BareEnvoy]:
    with running(descriptors, Edge()) as started:
        yield started


def _refusals(envoy: BareEnvoy) -> Counter[tuple[str, str]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{envoy.metrics_port}/stats/prometheus", timeout=10) as answer:
        series = _SERIES.findall(answer.read().decode())
    found = Counter[tuple[str, str]]()
    for text, count in series:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
        if labels.get("reason"):
            found[labels["reason"], labels["method"]] += int(count)
    return found


def _get(envoy: BareEnvoy, path: str) -> None:
    marks = dict.fromkeys(names.MARKS, "MINE")
    request = urllib.request.Request(f"http://{envoy.address}{path}", headers=marks)
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=10)


def test_refusals_are_counted_by_reason_and_method_whatever_the_wire(envoy: BareEnvoy) -> None:
    asked = (
        Target.of(method("GetOrder"), orders_pb2.GetOrderRequest(name="orders/1")),
        Target.of(method("CreateSession"), identity_pb2.CreateSessionRequest()),
    )
    for wire in (Native(envoy.address), Web(envoy.address), Json(envoy.address)):
        refused, answered = (wire.call(target) for target in asked)
        wire.close()
        assert (UNAUTHENTICATED, OK) == (refused.code, answered.code)

    eventually(lambda: _refusals(envoy) == {("TOKEN_MISSING", "weft.orders.v1.OrderService/GetOrder"): 3})


def test_no_word_of_a_caller_makes_a_series(envoy: BareEnvoy) -> None:
    for number in range(20):
        _get(envoy, f"/v1/nothing/{number}")

    eventually(lambda: _refusals(envoy) == {("METHOD_UNKNOWN", ""): 20})
