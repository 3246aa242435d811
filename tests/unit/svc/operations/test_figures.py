"""The one question to Prometheus is one that it can read, and its answer holds every figure under its name."""

import json
import subprocess
from pathlib import Path

import pytest

from svc.operations import figures
from svc.operations.figures import QUESTIONS, Figures, Sample
from tests.fakes.operations import prometheus, series

PROMTOOL = "/usr/bin/promtool"
#: A gateway that counted ten calls a second of orders, one of which failed in JSON, and none of catalog.
GIVEN = [
    ('envoy_weft_calls_total{method="weft.orders.v1.OrderService/PlaceOrder",http_status="200",grpc_status="0"}', 45),
    ('envoy_weft_calls_total{method="weft.orders.v1.OrderService/PlaceOrder",http_status="503"}', 5),
    ('envoy_weft_calls_total{method="",http_status="404"}', 10),
    ('weft_process_cpu_seconds_total{instance="orders-1"}', 2.5),
    ('weft_rpc_busy_seconds_total{instance="orders-1"}', 30),
]


def evaluated(tmp_path: Path, question: str, expected: list[tuple[str, float]]) -> str:
    """What promtool says where the joint question, cut down to one name, has another answer after a minute."""
    named = f'label_replace(vector(1), "asked", "{question}", "", "")'
    test = {
        "evaluation_interval": "5s",
        "tests": [
            {
                "interval": "5s",
                "input_series": [{"series": name, "values": f"0+{step}x24"} for name, step in GIVEN]
                + [{"series": 'weft_rpc_threads{instance="orders-1"}', "values": "12x24"}],
                "promql_expr_test": [
                    {
                        "expr": f"({figures.expression()}) and on (asked) {named}",
                        "eval_time": "1m",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in expected],
                    }
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(json.dumps(test))
    done = subprocess.run([PROMTOOL, "test", "rules", path], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("edge", [('{asked="edge", owner="orders"}', 10.0), ('{asked="edge"}', 2.0)]),
        ("edge faults json", [('{asked="edge faults json", owner="orders"}', 1.0)]),
        ("edge faults grpc", []),
        ("cpu", [('{asked="cpu", instance="orders-1"}', 0.5)]),
        ("utilization", [('{asked="utilization", instance="orders-1"}', 0.5)]),
    ],
)
def test_prometheus_answers_the_joint_question_by_names(
    tmp_path: Path, question: str, expected: list[tuple[str, float]]
) -> None:
    assert "" == evaluated(tmp_path, question, expected)


def test_an_answer_is_sorted_by_names_and_what_is_no_number_left_out() -> None:
    found = figures.parse(
        prometheus(
            series("cpu", 0.5, instance="a-1"),
            series("cpu", 0.25, instance="b-1"),
            series("edge p99", float("nan"), owner="orders"),
            series("memory", float("inf"), instance="a-1"),
        )
    )

    assert (0.75, 0.5, None, None) == (
        found.one("cpu"),
        found.one("cpu", instance="a-1"),
        found.one("cpu", instance="c-1"),
        found.one("edge p99"),
    )
    assert () == found.all("memory")
    assert {"a-1": 0.5, "b-1": 0.25} == found.sums("cpu", lambda labels: labels["instance"])


def test_a_question_that_nobody_asks_is_a_fault() -> None:
    with pytest.raises(KeyError):
        Figures({}).all("colour")


def test_a_sample_of_nothing_is_none_and_not_zero() -> None:
    assert Figures({}).one("cpu") is None
    assert 0.0 == Figures({"cpu": [Sample({}, 0.0)]}).one("cpu")


def test_names_are_words_that_a_label_can_hold() -> None:
    assert [] == [name for name in QUESTIONS if not name.replace(" ", "").isalnum()]
