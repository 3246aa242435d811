"""Prometheus: scrapes every process of the mesh by a generated target list and evaluates the project's alert rules."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.config import PROJECT, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Command, Kind, Server
from deploy.supervisor.probe import HOST
from deploy.supervisor.readiness import Http

BINARY = "/usr/bin/prometheus"
RULES = PROJECT / "deploy" / "observability" / "prometheus"
"""Every `*.yml` in here is a rule file."""
RETENTION = "7d"
SCRAPE_INTERVAL = "5s"
SELDOM = "15s"
JOB = "weft"


@dataclass(frozen=True, slots=True)
class Target:
    """One process that exposes metrics."""

    instance: str
    service: str
    kind: str
    port: int
    host: str = HOST
    path: str = "/metrics"
    often: bool = True
    """Whether alerts within seconds depend on it; what costs its process more to say is asked less often."""


def server(
    name: str,
    layout: Layout,
    account: Account | None,
    *,
    port: int,
    targets: Sequence[Target],
    alertmanager_port: int,
) -> Server:
    """The one monitor. Rules are copied, since its account need not be able to read the clone.

    Targets are files, which Prometheus follows: an instance that comes or goes is known at once. Neither list is ever
    empty, for then it would keep the last one. Rules it reads again when it is sent SIGHUP.
    """
    home = layout.home(name)

    async def prepare() -> None:
        layout.private(home, account)
        layout.private(home / "rules", account)
        for stale in (home / "rules").iterdir():
            stale.unlink()
        for source in sorted(RULES.glob("*.yml")):
            layout.write(home / "rules" / source.name, source.read_text(), account)
        layout.write(home / "rules" / "slo.yml", layout.slo.read_text(), account)
        for often, file in ((True, "targets.json"), (False, "targets-seldom.json")):
            groups = render_targets([target for target in targets if target.often is often])
            layout.write(home / file, json.dumps(groups, indent=1), account)
        layout.write(
            home / "prometheus.yml", json.dumps(render(home, f"{HOST}:{alertmanager_port}"), indent=1), account
        )

    return Server(
        name=name,
        kind=Kind.MONITOR,
        service="prometheus",
        command=Command(
            argv=(
                BINARY,
                f"--config.file={home / 'prometheus.yml'}",
                f"--storage.tsdb.path={home / 'tsdb'}",
                f"--storage.tsdb.retention.time={RETENTION}",
                f"--web.listen-address={HOST}:{port}",
                "--log.level=warn",
            ),
            env={**child_environ(), "HOME": str(home), "GOMAXPROCS": "1"},
            cwd=home,
            account=account,
        ),
        probe=Http(port, "/-/ready"),
        ports=(port,),
        after=("slo",),
        prepare=prepare,
        rereads=True,
    )


def render(home: Path, *alertmanagers: str) -> Mapping[str, object]:
    """prometheus.yml; JSON is YAML. `home`: where rules and targets are; `alertmanagers`: host:port."""
    return {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
        "rule_files": [str(home / "rules" / "*.yml")],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [*alertmanagers]}]}]},
        "scrape_configs": [
            _scrape(JOB, home / "targets.json", SCRAPE_INTERVAL),
            _scrape(f"{JOB}-seldom", home / "targets-seldom.json", SELDOM),
        ],
    }


def _scrape(name: str, targets: Path, interval: str) -> Mapping[str, object]:
    return {
        "job_name": name,
        "scrape_interval": interval,
        # What a metric says it is about (weft_endpoints{service="catalog"}) stays so, whoever exposes it.
        "honor_labels": True,
        "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "10s"}],
        # How often a process is asked is nothing that a rule should have to know.
        "relabel_configs": [{"target_label": "job", "replacement": JOB}],
    }


def render_targets(targets: Sequence[Target]) -> Sequence[Mapping[str, object]]:
    """File-based discovery: one group per process, so that each has its own labels and path."""
    return [
        {
            "targets": [f"{target.host}:{target.port}"],
            "labels": {
                "instance": target.instance,
                "service": target.service,
                "kind": target.kind,
                "__metrics_path__": target.path,
            },
        }
        for target in targets
    ]
