"""The order of the interceptors is a decision, written down with its reasons."""

from contextlib import ExitStack

import pytest

from svc.chassis.call import Call, Method
from svc.chassis.errors import AppError, DeadlineExceeded, ResourceExhausted
from svc.chassis.interceptors import ORDER, deadline, overload
from tests.unit.svc.chassis.instance import INVENTORY, Instance


def test_the_order_is_the_one_of_the_request_path() -> None:
    names = [build.__module__.rpartition(".")[2] for build, _ in ORDER]

    assert ["telemetry", "status", "overload", "deadline", "peer", "principal", "validation"] == names


def test_every_place_in_the_order_has_a_reason() -> None:
    assert all(len(reason) > 20 for _, reason in ORDER)


def enter(stack: ExitStack, call: Call, instance: Instance) -> None:
    for build in (overload.build, deadline.build):
        stack.enter_context(build(call.method, instance.verifier)(call))


@pytest.mark.parametrize(
    ("left_s", "expected"), [(0.0, (DeadlineExceeded, False)), (0.1, (ResourceExhausted, True))], ids=["none", "some"]
)
def test_a_call_turned_away_whose_time_is_over_says_that_and_not_overload(
    instance: Instance, left_s: float, expected: tuple[type[AppError], bool]
) -> None:
    method = Method.of(INVENTORY.methods_by_name["GetStock"], instance="orders-7")
    call = Call(method=method, metadata={}, body=b"", time_left_s=left_s, is_active=lambda: True, shed=True)

    with ExitStack() as stack, pytest.raises(AppError) as caught:
        enter(stack, call, instance)

    assert expected == (type(caught.value), call.shed)
