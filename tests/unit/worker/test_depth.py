"""The depth probe, whatever the driver and the broker do to it."""

import socket
import threading
import time
from collections.abc import Mapping

import pytest

from svc.chassis import metrics
from worker.amqp import depth
from worker.amqp.depth import DepthProbe, Depths
from worker.errors import Outage


class FakeDepths:
    """Answers, or raises what the test says."""

    def __init__(self, *answers: Mapping[str, int] | Exception) -> None:
        self.answers = list(answers)
        self.asked = threading.Event()

    def read(self) -> Mapping[str, int]:
        answer = self.answers.pop(0)
        if not self.answers:
            self.asked.set()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.asked.set()


def known(queue: str) -> float:
    return metrics.QUEUE_DEPTH.labels(queue)._value.get()


def test_a_figure_that_cannot_be_had_leaves_the_last_one() -> None:
    probe = DepthProbe(FakeDepths({"weft.depth": 7}, Outage("broker away"), KeyError("pika")))

    for _ in range(3):
        probe.report()

    assert 7 == known("weft.depth")


def test_nothing_that_the_driver_raises_ends_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "PROBE_EVERY_S", 0.0)
    before = metrics.UNEXPECTED_ERRORS.labels(place="queue_depth")._value.get()
    answers = FakeDepths(AssertionError("pika"), {"weft.depth": 8}, {"weft.depth": 9})
    # The answers run out after three, which is unexpected as well.
    probe = DepthProbe(answers)
    probe.start()
    assert answers.asked.wait(10)

    assert probe.alive()
    probe.stop(10)

    assert 1 <= metrics.UNEXPECTED_ERRORS.labels(place="queue_depth")._value.get() - before


def test_a_broker_that_is_frozen_does_not_hold_up_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depth, "PROBE_EVERY_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        frozen.settimeout(10)
        probe = DepthProbe(Depths(f"amqp://guest:guest@127.0.0.1:{frozen.getsockname()[1]}/", ["weft.test"]))
        probe.start()
        connection, _ = frozen.accept()
        begun = time.monotonic()
        probe.stop(5.0)

        assert 2.0 > time.monotonic() - begun
        connection.close()
