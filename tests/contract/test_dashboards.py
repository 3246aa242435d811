"""Dashboards and alerts ask for metrics that exist, in expressions that Prometheus can read."""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client.metrics import MetricWrapperBase

from deploy.supervisor.exposition import Snapshot, expose
from deploy.supervisor.messages import Process
from gateway import compiler
from gateway.envoy import calls
from lb.registry import metrics as registry
from lb.xds import metrics as control_plane
from svc.chassis import metrics as chassis
from svc.operations import figures
from weft_protos import locations

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "deploy" / "observability"
DASHBOARDS = sorted((OBSERVABILITY / "dashboards").glob("*.json"))
#: Others' metrics, which only a running mesh can show; tests/integration/test_monitoring.py looks there.
FOREIGN: Final = ("envoy_", "etcd_", "rabbitmq_", "pg_", "alertmanager_", "prometheus_")
#: What Prometheus makes by itself.
OWN: Final = {"up", "ALERTS"}
_NAME = re.compile(r"\b[a-zA-Z_][a-zA-Z0-9_:]*\b(?!\s*\()")
#: What looks like a metric and is none: strings, label lists of matchers and clauses, durations, and words of PromQL.
_ELSE = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)')
_WORDS = {"and", "or", "unless", "by", "on", "bool", "offset", "group_left", "group_right"}


def metrics(expression: str) -> set[str]:
    """The metrics that an expression asks for."""
    bare = re.sub(r"\boffset \w+|\b\d\w*", " ", _ELSE.sub(" ", expression))
    return {name for name in _NAME.findall(bare) if name not in _WORDS}


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression of everything that is drawn."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
    yield from ((f"operations: {name}", expression) for name, expression in figures.QUESTIONS.items())


@cache
def rules() -> Sequence[tuple[str, str]]:
    """Name and expression of every rule."""
    return list(_rules())


def _rules() -> Iterator[tuple[str, str]]:
    for group in json.loads(compiler.watch(locations.contracts().read_bytes()))["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for path in sorted((OBSERVABILITY / "prometheus").glob("*.yml")):
        pattern = r"- alert: (\w+)\n +expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):"
        for name, expression in re.findall(pattern, path.read_text()):
            yield name, " ".join(expression.split())


@cache
def known() -> frozenset[str]:
    """Every series that our own parts expose or record."""
    found = set(OWN)
    for module in (chassis, control_plane, registry):
        for metric in vars(module).values():
            if isinstance(metric, MetricWrapperBase):
                found |= {name for family in metric.describe() for name in _series(family.name, family.type)}
    process = Process("memcached-1", "memcached", "memcached", 1, "127.0.0.1:1", "ready", 0, "", "member")
    exposition = expose(Snapshot([process], {("restart", "taken"): 0})).decode()
    found |= set(re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE))
    found |= {record for record, _ in rules()}
    return frozenset(found | {calls.CALLS, *_series(calls.DURATION, "histogram")})


def _series(name: str, kind: str) -> set[str]:
    if kind == "histogram":
        return {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    return {f"{name}_total"} if kind == "counter" else {name}


def test_the_reading_of_expressions_finds_metrics_alone() -> None:
    expression = (
        'sum by (le, method) (rate(a_total{b="c d"}[5m])) / on (x) group_left (y) e:f:g1h > 1.5 unless h offset 5m'
    )

    assert {"a_total", "e:f:g1h", "h"} == metrics(expression)


def test_dashboards_and_rules_ask_for_metrics_that_our_parts_have() -> None:
    missing = {
        (where, metric)
        for where, expression in [*panels(), *rules()]
        for metric in metrics(expression) - known()
        if not metric.startswith(FOREIGN)
    }

    assert set() == missing
    assert len([*rules()]) > 50


def test_every_service_worker_and_control_plane_metric_is_shown_or_watched() -> None:
    asked = {metric for _, expression in [*panels(), *rules()] for metric in metrics(expression)}
    declared = [
        family.name
        for module in (chassis, control_plane, registry)
        for metric in vars(module).values()
        if isinstance(metric, MetricWrapperBase)
        for family in metric.describe()
    ]

    unseen = {name for name in declared if not any(each.startswith(name) for each in asked)}
    assert {"weft_xds_refused", "weft_xds_snapshot_resources"} >= unseen


def test_prometheus_can_read_what_dashboards_ask(tmp_path: Path) -> None:
    readable = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "1m", expression)}
        for number, (_, expression) in enumerate(panels())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": readable}]}))

    done = subprocess.run(["/usr/bin/promtool", "check", "rules", path], capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_a_dashboard_can_be_imported(path: Path) -> None:
    dashboard: dict[str, Any] = json.loads(path.read_text())
    panels = dashboard["panels"]

    assert f"weft-{path.stem}" == dashboard["uid"]
    assert len(panels) == len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels})
    assert {"${datasource}"} == {panel["datasource"]["uid"] for panel in panels}
    taken = [
        (x, y)
        for panel in panels
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken)), "panels overlap"
    assert max(x for x, _ in taken) < 24
    variables = {variable["name"] for variable in dashboard["templating"]["list"]} | {"__rate_interval"}
    assert set(re.findall(r"\$\{?(\w+)", path.read_text())) <= variables


def test_there_is_a_dashboard_for_each_question() -> None:
    assert ["gateway", "overview", "service", "stores"] == [path.stem for path in DASHBOARDS]
