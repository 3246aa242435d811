"""How the rate of RabbitMQ's PerfTest is read off its lines."""

import pytest

from bench import perf_test
from bench.report import BenchError

LINES = "\n".join(
    f"id: test, time {second}.012 s, sent: 9 msg/s, confirmed: {rate} msg/s, nacked: 0 msg/s, min/median 1/2 µs"
    for second, rate in enumerate([10, 500, 900, 4000, 5000, 7000, 6000], 1)
)


def test_what_a_cold_machine_did_does_not_count() -> None:
    assert 5500.0 == perf_test.rate_of(LINES)


def test_a_run_that_was_never_warm_measured_nothing_and_says_why() -> None:
    with pytest.raises(BenchError, match="connection refused"):
        perf_test.rate_of(LINES.splitlines()[0], "connection refused")
