"""Every alert is tried by Prometheus, fires and is quiet in its tests, and has a page that says what to do."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway import compiler, slo
from weft_protos import locations

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "observability" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
TESTS = sorted(RULES.glob("*_test.yaml"))
#: An expectation in a test: when, of which alert, and whether anything is expected to fire.
_EXPECTED = re.compile(r"- eval_time: \S+\n\s+alertname: (?P<name>\w+)(?P<fires>\n\s+exp_alerts:)?")
_ALERT = re.compile(r"- alert: (?P<name>\w+)\n(?P<body>(?:(?! *- (?:alert|record|name):).*\n)*)")


@dataclass(frozen=True)
class Alert:
    """What a rule says of itself."""

    severities: frozenset[str]
    """More than one where it depends on a label."""
    runbook: str
    summary: bool
    description: bool


def written() -> Iterator[tuple[str, Alert]]:
    """The alerts of the rule files."""
    for path in sorted(RULES.glob("*.yml")):
        for found in _ALERT.finditer(path.read_text()):
            body = found["body"]

            def said(key: str, body: str = body) -> str:
                value = re.search(rf"^ +{key}: (.*)$", body, re.MULTILINE)
                return value[1] if value else ""

            texts = (bool(said("summary")), bool(said("description")))
            severities = frozenset(re.sub(r"\{\{.*?\}\}|'", " ", said("severity")).split())
            yield found["name"], Alert(severities, said("runbook_url"), *texts)


def compiled() -> Iterator[tuple[str, Alert]]:
    """The alerts made from the contracts."""
    for group in json.loads(compiler.watch(locations.contracts().read_bytes()))["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                notes = rule["annotations"]
                texts = (bool(notes.get("summary")), bool(notes.get("description")))
                yield rule["alert"], Alert(frozenset([rule["labels"]["severity"]]), notes["runbook_url"], *texts)


def alerts() -> Mapping[str, Alert]:
    return dict([*written(), *compiled()])


def test_no_alert_is_missed_by_this_reading() -> None:
    text = "".join(path.read_text() for path in RULES.glob("*.yml"))

    assert sorted(re.findall(r"- alert: (\w+)", text)) == sorted(name for name, _ in written())
    assert 2 == len([*compiled()])
    assert len(alerts()) == len([*written()]) + len([*compiled()]), "two alerts share a name"


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is() -> None:
    lacking = [
        name
        for name, alert in alerts().items()
        if not (alert.summary and alert.description and alert.severities) or not alert.severities <= {"page", "ticket"}
    ]

    assert [] == lacking


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    expected = {name: f"{slo.RUNBOOKS}/{name}.md" for name in alerts()}

    assert expected == {name: alert.runbook for name, alert in alerts().items()}
    assert set(expected) == {path.stem for path in RUNBOOKS.glob("*.md")}


def test_a_runbook_says_what_it_means_what_to_do_and_when_it_ends() -> None:
    for path in RUNBOOKS.glob("*.md"):
        text = path.read_text()
        assert text.startswith(f"# {path.stem}\n\n"), path.name
        assert "\n1. " in text, path.name
        assert "\nIt ends " in text, path.name


def test_alerts_that_a_runbook_sends_its_reader_to_exist() -> None:
    named = {
        (path.stem, other)
        for path in RUNBOOKS.glob("*.md")
        for other in re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", path.read_text())
    }

    assert [] == sorted((page, other) for page, other in named if other not in alerts())


def test_every_written_alert_is_shown_to_fire_and_to_be_quiet() -> None:
    found = [match for path in TESTS for match in _EXPECTED.finditer(path.read_text())]
    names = {name for name, _ in written()}

    assert names == {match["name"] for match in found if match["fires"]}
    assert names == {match["name"] for match in found if not match["fires"]}


@pytest.mark.parametrize("path", TESTS, ids=[path.stem for path in TESTS])
def test_prometheus_agrees_with_the_tests_of_the_rules(path: Path) -> None:
    done = subprocess.run(
        ["/usr/bin/promtool", "test", "rules", path.name],
        cwd=RULES,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_every_rule_file_has_its_tests() -> None:
    assert {path.stem for path in RULES.glob("*.yml")} == {path.stem.removesuffix("_test") for path in TESTS}
