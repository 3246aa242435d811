"""The order of the interceptors is a decision, written down with its reasons."""

from svc.chassis.interceptors import ORDER


def test_the_order_is_the_one_of_the_request_path() -> None:
    names = [build.__module__.rpartition(".")[2] for build, _ in ORDER]

    assert ["telemetry", "status", "overload", "deadline", "principal", "validation"] == names


def test_every_place_in_the_order_has_a_reason() -> None:
    assert all(len(reason) > 20 for _, reason in ORDER)
