"""The rules made from the objectives of the real contracts, tried by Prometheus itself."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import compiler, policy, slo
from gateway.envoy.calls import CALLS, DURATION
from gateway.policy import PolicySet, Rpc

PROMTOOL = "/usr/bin/promtool"
ROUND_S = 15
#: Calls of a method in one round, of which a share fails: divisible by the budgets of all contracts.
CALLS_A_ROUND = 100_000
AT = "15m"
METHOD = "weft.orders.v1.OrderService/PlaceOrder"
NAMES = ("ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly")


@pytest.fixture(scope="module")
def rules(descriptors: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slo") / "slo.yml"
    path.write_text(compiler.watch(descriptors))
    return path


def promtool(*arguments: str) -> str:
    """What promtool complains of, or the empty string."""
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def budget(rpc: Rpc, objective: str) -> float:
    assert rpc.policy.slo is not None
    percent = rpc.policy.slo.availability if objective == slo.AVAILABILITY else rpc.policy.slo.latency
    assert percent is not None
    return (100 - percent) / 100


def objectives(policies: PolicySet) -> list[tuple[Rpc, str]]:
    return [
        (rpc, objective)
        for rpc in policies.rpcs
        if rpc.policy.slo
        for objective, percent in (
            (slo.AVAILABILITY, rpc.policy.slo.availability),
            (slo.LATENCY, rpc.policy.slo.latency),
        )
        if percent is not None
    ]


def growing(name: str, step: float, **labels: str) -> dict[str, str]:
    """A counter of one gateway that grows by `step` in each round, for as long as any test looks."""
    said = ",".join(f'{key}="{value}"' for key, value in {"instance": "gateway-1", **labels}.items())
    return {"series": f"{name}{{{said}}}", "values": f"0+{step:.0f}x400"}


def calls(rpc: Rpc, objective: str, rate: float) -> list[dict[str, str]]:
    """Calls of a method that burn the budget of one objective at a rate, and the other's not at all."""
    missed = min(1.0, rate * budget(rpc, objective)) * CALLS_A_ROUND
    good = {"method": rpc.name, "http_status": "200", "grpc_status": "0"}
    if objective == slo.AVAILABILITY:
        # Half of the faults were JSON, the other half gRPC; refusals, and callers who left, are none.
        return [
            growing(CALLS, CALLS_A_ROUND - missed - 20, **good),
            growing(CALLS, 10, **{**good, "http_status": "429", "grpc_status": "14"}),
            growing(CALLS, 10, **{**good, "http_status": "0", "grpc_status": "2"}),
            growing(CALLS, missed / 2, **{**good, "http_status": "503", "grpc_status": "14"}),
            growing(CALLS, missed / 2, **{**good, "grpc_status": "14"}),
        ]
    assert rpc.policy.slo is not None
    assert rpc.policy.slo.threshold is not None
    bound = f"{rpc.policy.slo.threshold.total_seconds() * 1000:g}"
    return [
        growing(f"{DURATION}_count", CALLS_A_ROUND, method=rpc.name),
        growing(f"{DURATION}_bucket", CALLS_A_ROUND, method=rpc.name, le="+Inf"),
        growing(f"{DURATION}_bucket", CALLS_A_ROUND - missed, method=rpc.name, le=bound),
    ]


def number(expression: str, at: str, value: float) -> dict[str, Any]:
    return {"expr": expression, "eval_time": at, "exp_samples": [{"labels": "{}", "value": value}]}


def firing(alert: str, found: list[tuple[Rpc, str]], at: str) -> dict[str, Any]:
    """That just these objectives fire an alert."""
    names = sorted((rpc.name, objective) for rpc, objective in found)
    if not names:
        return {"expr": f'ALERTS{{alertname="{alert}"}}', "eval_time": at, "exp_samples": []}
    samples = [
        {
            "labels": f'ALERTS{{alertname="{alert}",alertstate="firing",method="{rpc.name}",service="{rpc.owner}",'
            f'severity="{"page" if alert == NAMES[0] else "ticket"}",slo="{objective}"}}',
            "value": 1,
        }
        for rpc, objective in found
    ]
    return {"expr": f'ALERTS{{alertname="{alert}"}}', "eval_time": at, "exp_samples": samples}


@pytest.fixture
def tried(rules: Path, tmp_path: Path) -> Callable[[list[dict[str, str]], list[dict[str, Any]]], str]:
    """Has promtool run the rules over series, and compare; what differs."""

    def run(series: list[dict[str, str]], expected: list[dict[str, Any]]) -> str:
        test = {"interval": f"{ROUND_S}s", "input_series": series, "promql_expr_test": expected}
        path = tmp_path / "slo_test.json"
        document = {"rule_files": [str(rules)], "evaluation_interval": f"{ROUND_S}s", "tests": [test]}
        path.write_text(json.dumps(document))
        return promtool("test", "rules", str(path))

    return run


Tried = Callable[[list[dict[str, str]], list[dict[str, Any]]], str]


def test_prometheus_takes_the_rules(rules: Path) -> None:
    assert "" == promtool("check", "rules", str(rules))


def test_every_method_of_the_contracts_has_an_objective(policies: PolicySet) -> None:
    assert [] == [rpc.name for rpc in policies.rpcs if rpc.policy.slo is None]


@pytest.mark.parametrize(
    ("rate", "fast", "slow"),
    [(0.5, False, False), (1.5, False, True), (4, False, True), (8, True, True)],
)
def test_an_objective_alerts_by_the_rate_at_which_its_budget_burns(
    tried: Tried, policies: PolicySet, rate: float, fast: bool, slow: bool
) -> None:
    watched = objectives(policies)
    series = [each for rpc, objective in watched for each in calls(rpc, objective, rate)]

    expected = [firing(NAMES[0], watched if fast else [], AT), firing(NAMES[1], watched if slow else [], AT)]
    assert "" == tried(series, expected)


def test_a_burn_rate_is_measured_for_each_window(tried: Tried, policies: PolicySet) -> None:
    rpc = policy.find(policies, METHOD)
    expected = [
        number(f'round(sum({slo.burn_rate(window)}{{slo="availability"}}), 0.001)', AT, 4)
        for window in (slo.BASE, *slo.WINDOWS)
    ]

    assert "" == tried(calls(rpc, slo.AVAILABILITY, 4), expected)


def test_an_alert_ends_soon_after_the_trouble(tried: Tried, policies: PolicySet) -> None:
    rpc = policy.find(policies, METHOD)
    good = {"method": METHOD, "http_status": "200", "grpc_status": "0"}
    series = [
        growing(CALLS, 100, **good),
        # A quarter of an hour of trouble, then none.
        {**growing(CALLS, 0, **{**good, "http_status": "503"}), "values": "0+5x60 300x240"},
    ]

    expected = [
        firing(NAMES[0], [(rpc, slo.AVAILABILITY)], "14m"),
        firing(NAMES[0], [], "60m"),
    ]
    assert "" == tried(series, expected)


def test_a_few_faults_among_few_calls_alert_nobody(tried: Tried) -> None:
    good = {"method": METHOD, "http_status": "200", "grpc_status": "0"}
    series = [
        {**growing(CALLS, 0, **good), "values": "0+0x20 1x20 2x20 3x200"},
        {**growing(CALLS, 0, **{**good, "http_status": "500"}), "values": "0+0x20 1x20 2x200"},
    ]

    assert "" == tried(series, [firing(name, [], at) for name in NAMES for at in ("7m", "11m", AT)])


def test_a_method_without_an_objective_alerts_nobody(tried: Tried) -> None:
    series = [growing(CALLS, 9, method="weft.shop.v1.Shop/Buy", http_status="503", grpc_status="14")]

    assert "" == tried(series, [firing(name, [], AT) for name in NAMES])
