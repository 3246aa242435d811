"""How many instances the load asks for, by the same numbers as the supervisor's own autoscaler (`autoscale.py`).

A service grows when its instances are busier than OUT_AT of their one processor, through OUT_FOR_S, and shrinks when
that was not so through IN_FOR_S: a HorizontalPodAutoscaler. A worker has one instance for so many events that wait: a
ScaledObject of KEDA, which asks Prometheus for the very metric that the supervisor reads.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from deploy.ship import ports
from deploy.ship.kubernetes.names import NAMESPACE, metadata
from deploy.ship.workload import Workload
from deploy.supervisor.autoscale import IN_FOR_S, OUT_AT, OUT_FOR_S
from deploy.supervisor.part import Kind

PROMETHEUS: Final = f"http://prometheus.{NAMESPACE}.svc:{ports.PROMETHEUS}"
POLL_S: Final = 5
BEHAVIOR: Final[Mapping[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": int(OUT_FOR_S),
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": int(IN_FOR_S),
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 15}],
    },
}


def of(one: Workload) -> Iterator[Mapping[str, Any]]:
    """What sizes a workload; nothing where its size is said."""
    if one.bounds is None:
        return
    if one.backlog is not None:
        yield _by_backlog(one)
    elif one.kind is Kind.SERVICE:
        yield _by_processor(one)


def _by_processor(one: Workload) -> Mapping[str, Any]:
    assert one.bounds is not None
    busy = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": round(OUT_AT * 100)}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata(one),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": one.name},
            "minReplicas": one.bounds.least,
            "maxReplicas": one.bounds.most,
            "metrics": [{"type": "Resource", "resource": busy}],
            "behavior": BEHAVIOR,
        },
    }


def _by_backlog(one: Workload) -> Mapping[str, Any]:
    assert one.bounds is not None
    assert one.backlog is not None
    waiting = {"serverAddress": PROMETHEUS, "query": one.backlog.query, "threshold": str(one.backlog.each)}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata(one),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": one.name},
            "minReplicaCount": one.bounds.least,
            "maxReplicaCount": one.bounds.most,
            "pollingInterval": POLL_S,
            # Without Prometheus nobody knows how much waits; there are enough for what is usual.
            "fallback": {"failureThreshold": 3, "replicas": one.bounds.least},
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
            "triggers": [{"type": "prometheus", "metadata": waiting}],
        },
    }
