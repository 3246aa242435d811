"""Alerts fire when they should, and tell whoever is woken what to do."""

import re
import shutil
import subprocess

import pytest

from deploy.supervisor.servers.prometheus import RULES

ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)
RUNBOOK = re.compile(r"^ +runbook: ", re.MULTILINE)
TESTED = re.compile(r"alertname: (\w+)\n +exp_alerts:")


def test_alerts_fire_on_the_series_they_are_for_and_on_no_others() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus is not installed")

    run = subprocess.run(
        [promtool, "test", "rules", str(RULES / "alerts_test.yaml")], capture_output=True, text=True, check=False
    )

    assert 0 == run.returncode, run.stdout + run.stderr


def test_every_alert_is_seen_firing_in_a_test_and_has_a_runbook() -> None:
    rules, tests = ((RULES / name).read_text() for name in ("alerts.yml", "alerts_test.yaml"))
    alerts = ALERT.findall(rules)

    assert set(alerts) == set(TESTED.findall(tests))
    assert len(alerts) == len(RUNBOOK.findall(rules))
