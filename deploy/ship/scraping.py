"""How Prometheus finds the processes of a mesh: from a file beside compose, from the pods' labels in Kubernetes.

What a rule may rely on is the same in all forms: `job`, and `instance`, `service` and `kind` of whoever is scraped.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.ship import ports
from deploy.ship.workload import Workload
from deploy.supervisor.servers import prometheus
from deploy.supervisor.servers.prometheus import Target

RULES: Final = sorted(prometheus.RULES.glob("*.yml"))
"""The house's own; those that watch the contracts are compiled from them."""
RULES_FOLDER: Final = "/etc/weft/rules"
"""Where pods find them."""
PART, KIND, SCRAPE = "weft.dev/part", "weft.dev/kind", "weft.dev/scrape"
"""Labels of a pod: which part it is of, of which kind, and how often it is asked; without the last it never is."""
OFTEN, SELDOM = "often", "seldom"
_META: Final = "__meta_kubernetes_pod_"


def from_files(workloads: Sequence[Workload]) -> Mapping[str, str]:
    """`prometheus.yml` and the targets beside it, for instances whose names are their hosts."""
    found = {"prometheus.yml": _dump(prometheus.render(Path(), f"alertmanager-1:{ports.ALERTMANAGER}"))}
    for often, name in ((True, "targets.json"), (False, "targets-seldom.json")):
        targets = [
            Target(
                instance,
                one.name,
                one.kind.value,
                one.ports[one.metrics],
                host=instance,
                path=one.metrics_path,
                often=often,
            )
            for one in workloads
            if one.metrics and one.often is often
            for instance in one.names()
        ]
        found[name] = _dump(prometheus.render_targets(targets))
    return found


def from_pods() -> Mapping[str, str]:
    """`prometheus.yml` for the pods of one namespace."""
    rendered = {
        **prometheus.render(Path(), f"alertmanager:{ports.ALERTMANAGER}"),
        # Beside the configuration, not within: nothing can be mounted into what is mounted to be read.
        "rule_files": [f"{RULES_FOLDER}/*.yml"],
        "scrape_configs": [
            _pods(prometheus.JOB, OFTEN, prometheus.SCRAPE_INTERVAL),
            _pods(f"{prometheus.JOB}-seldom", SELDOM, prometheus.SELDOM),
        ],
    }
    return {"prometheus.yml": _dump(rendered)}


def _pods(name: str, often: str, interval: str) -> Mapping[str, object]:
    return {
        "job_name": name,
        "scrape_interval": interval,
        "honor_labels": True,
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"own_namespace": True}}],
        "relabel_configs": [
            {"source_labels": [f"{_META}label_{_as_label(SCRAPE)}"], "regex": often, "action": "keep"},
            {"source_labels": [f"{_META}container_port_name"], "regex": METRICS_PORT, "action": "keep"},
            # One that has ended is not down.
            {"source_labels": [f"{_META}phase"], "regex": "Succeeded|Failed", "action": "drop"},
            {"source_labels": [f"{_META}name"], "target_label": "instance"},
            {"source_labels": [f"{_META}label_{_as_label(PART)}"], "target_label": "service"},
            {"source_labels": [f"{_META}label_{_as_label(KIND)}"], "target_label": "kind"},
            {"source_labels": [f"{_META}annotation_{_as_label(PATH)}"], "target_label": "__metrics_path__"},
            {"target_label": "job", "replacement": prometheus.JOB},
        ],
    }


METRICS_PORT: Final = "metrics|client|http"
"""What the port of a pod that is asked for its metrics may be called."""
PATH: Final = "weft.dev/metrics-path"
"""Annotation of a pod."""


def _as_label(text: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in text)


def _dump(value: object) -> str:
    return json.dumps(value, indent=1) + "\n"
