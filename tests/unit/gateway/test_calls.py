"""What a real gateway counts of the calls to a real instance, whatever they are written in."""

import http.client
import re
import socket
from collections import Counter

import pytest
from google.protobuf.message import Message

from gateway import rules
from gateway.envoy import calls
from svc.chassis.context import CallContext
from svc.chassis.errors import DeadlineExceeded, Unavailable
from tests.integration.edge_calls import Target, method
from tests.waiting import eventually
from weft.orders.v1 import inventory_pb2

from .conftest import settings_in
from .served import Door
from .served import door as door

GET = Target.of(method("GetStock"), inventory_pb2.GetStockRequest(name="stock/a"))
NAME = "weft.orders.v1.InventoryService/GetStock"
_SAMPLE = re.compile(r"(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\d+)")


class Admin(http.client.HTTPConnection):
    """Envoy's admin interface, behind its socket file."""

    def __init__(self, path: str) -> None:
        super().__init__("envoy", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def exposed(door: Door, metric: str, method: str = NAME) -> Counter[tuple[str, ...]]:
    """The series of a metric of one method: values by the values of their other labels, whatever reason and lane."""
    admin = Admin(str(settings_in(door.log.parent).admin_socket))
    admin.request("GET", "/stats/prometheus")
    found = Counter[tuple[str, ...]]()
    for sample in map(_SAMPLE.fullmatch, admin.getresponse().read().decode().splitlines()):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"])) if sample else {}
        for other in ("reason", "lane"):
            labels.pop(other, None)
        if sample and sample["name"] == metric and labels.pop("method", "") == method:
            found[tuple(labels[name] for name in sorted(labels))] += int(sample["value"])
    admin.close()
    return found


def counted(door: Door, before: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """By gRPC and HTTP status, what was counted since `before`."""
    return dict(exposed(door, calls.CALLS) - before)


def test_a_call_counts_once_by_method_and_status_on_every_wire(door: Door) -> None:
    before = exposed(door, calls.CALLS)

    answers = door.everywhere(GET, door.token())

    assert {0} == {answer.code for answer in answers.values()}
    # The status of gRPC-web lies in the body by then.
    eventually(lambda: counted(door, before) == {("0", "200"): 2, ("2", "200"): 2})


def test_a_refusal_counts_by_its_status_and_is_no_fault(door: Door) -> None:
    before = exposed(door, calls.CALLS)

    answers = door.everywhere(GET)

    assert {16} == {answer.code for answer in answers.values()}
    # gRPC-web and gRPC have 200 on the wire, JSON has its own.
    eventually(lambda: sum(counted(door, before).values()) == len(answers))
    assert {("16", "200"), ("16", "401")} == set(counted(door, before))


@pytest.mark.parametrize(
    ("fault", "number", "http_status"), [(Unavailable(), 14, "503"), (DeadlineExceeded(), 4, "504")]
)
def test_a_fault_counts_once_whatever_was_retried(door: Door, fault: Exception, number: int, http_status: str) -> None:
    def fail(_request: Message, _call: CallContext) -> Message:
        raise fault

    before, works = exposed(door, calls.CALLS), door.instance.behaviour.do
    door.instance.behaviour.do = fail

    try:
        answers = door.everywhere(GET, door.token())
    finally:
        door.instance.behaviour.do = works

    assert {number} == {answer.code for answer in answers.values()}
    eventually(lambda: sum(counted(door, before).values()) == len(answers))
    found = counted(door, before)
    assert (3, {"200", http_status}) == (found[str(number), "200"], {status for _, status in found})


def test_what_no_contract_has_counts_for_no_method(door: Door) -> None:
    before = exposed(door, calls.CALLS, "")
    client = http.client.HTTPConnection(door.address, timeout=10)

    client.request("GET", "/v1/nothing")
    assert 404 == client.getresponse().status
    client.close()

    eventually(lambda: [404] == [int(http) for _, http in exposed(door, calls.CALLS, "") - before])


def test_only_calls_that_succeed_are_timed(door: Door) -> None:
    door.everywhere(GET)
    door.everywhere(GET, door.token())

    def agree() -> bool:
        succeeded = sum(
            value for (code, status), value in exposed(door, calls.CALLS).items() if code in "02" and status == "200"
        )
        return exposed(door, f"{calls.DURATION}_count") == {(): succeeded}

    eventually(agree)


def test_every_threshold_that_a_contract_may_name_is_a_bound_of_the_histogram(door: Door) -> None:
    door.everywhere(GET, door.token())

    eventually(lambda: exposed(door, f"{calls.DURATION}_bucket"))

    bounds = {float(bound) for (bound,) in exposed(door, f"{calls.DURATION}_bucket") if bound != "+Inf"}
    assert set(rules.THRESHOLDS_MS) <= bounds


def entered(door: Door) -> Counter[str]:
    """How often each script was entered at the door without TLS."""
    admin = Admin(str(settings_in(door.log.parent).admin_socket))
    admin.request("GET", "/stats?filter=^http.edge.lua.*executions")
    lines = admin.getresponse().read().decode().splitlines()
    admin.close()
    return Counter({line.split(".")[3]: int(line.rsplit(" ", 1)[1]) for line in lines})


def test_a_call_that_goes_well_enters_one_script_and_a_refused_one_what_explains_it(door: Door) -> None:
    native = door.wires[0]

    def entered_by(token: str | None, code: int) -> dict[str, int]:
        before = entered(door)
        assert code == native.call(GET, token).code
        return dict(entered(door) - before)

    # After calls that failed, answers are counted until retries are what they were.
    eventually(lambda: entered_by(door.token(), 0) == {"guard": 1})
    assert {"refusal": 1} == entered_by(None, 16)
