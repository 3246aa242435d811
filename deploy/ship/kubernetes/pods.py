"""What runs in a pod: one container, no user's rights, nothing that can be written to but what is named."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from deploy.ship.kubernetes.names import SECRET, labels, selector
from deploy.ship.scraping import PATH, RULES_FOLDER
from deploy.ship.workload import SECRETS, USER, Probe, Workload

TMP: Final = "/tmp"
READABLE: Final = 0o440
"""Files of root that the pod's group may read: `Secrets` refuses what others may."""
CONFIG: Final = "weft.dev/config"


def template(one: Workload) -> Mapping[str, Any]:
    """The pod of a workload."""
    # Pods are replaced when their configuration is: nobody reads it again by itself.
    notes = {CONFIG: hashlib.sha256(repr(sorted(one.files.items())).encode()).hexdigest()[:16]} if one.files else {}
    if one.metrics:
        notes[PATH] = one.metrics_path
    spec: dict[str, Any] = {
        "serviceAccountName": one.name,
        # Only Prometheus asks Kubernetes for anything.
        "automountServiceAccountToken": one.name == "prometheus",
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": one.grace_s,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(one)],
        "volumes": list(_volumes(one)),
    }
    if one.stage:
        spec["restartPolicy"] = "OnFailure"
    elif one.size > 1:
        spec["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector(one.name),
            }
            for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
        ]
    return {"metadata": {"labels": labels(one), **({"annotations": notes} if notes else {})}, "spec": spec}


def _container(one: Workload) -> Mapping[str, Any]:
    said: dict[str, Any] = {"name": one.name, "image": str(one.image)}
    if one.command:
        said["command"] = list(one.command)
    if one.arguments:
        said["args"] = list(one.arguments)
    said["env"] = [
        # First, since the others are made of them.
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        *({"name": key, "value": value} for key, value in sorted(one.environ.items())),
    ]
    if one.ports:
        said["ports"] = [{"name": name, "containerPort": port} for name, port in one.ports.items()]
    if one.ready is not None and one.alive is not None:
        # A start may take its time; from then on what hangs is noticed, later than what is merely full is done.
        said["startupProbe"] = {**_asked(one.alive, one), "periodSeconds": 2, "failureThreshold": 90}
        said["readinessProbe"] = {**_asked(one.ready, one), "periodSeconds": 5, "failureThreshold": 2}
        said["livenessProbe"] = {**_asked(one.alive, one), "periodSeconds": 10, "failureThreshold": 6}
    said["resources"] = {
        "requests": {"cpu": one.cpu, "memory": f"{one.memory_mb}Mi"},
        "limits": {"memory": f"{one.memory_mb * 2}Mi"},
    }
    said["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    said["volumeMounts"] = list(_mounts(one))
    return said


def _asked(probe: Probe, one: Workload) -> Mapping[str, Any]:
    number = one.ports[probe.port]
    if probe.service is not None:
        return {"grpc": {"port": number, "service": probe.service}, "timeoutSeconds": 3}
    if probe.path is not None:
        return {"httpGet": {"port": number, "path": probe.path}, "timeoutSeconds": 3}
    return {"tcpSocket": {"port": number}, "timeoutSeconds": 3}


def _mounts(one: Workload) -> Iterator[Mapping[str, Any]]:
    if one.secrets:
        yield {"name": "secrets", "mountPath": SECRETS, "readOnly": True}
    for pair in one.certificates:
        yield {"name": pair.name, "mountPath": pair.path, "readOnly": True}
    for folder in _folders(one):
        yield {"name": "config", "mountPath": folder, "readOnly": True}
    if one.name == "prometheus":
        yield {"name": "rules", "mountPath": RULES_FOLDER, "readOnly": True}
    yield from ({"name": volume.name, "mountPath": volume.path} for volume in one.volumes)
    if all(volume.path != TMP for volume in one.volumes):
        yield {"name": "tmp", "mountPath": TMP}


def _volumes(one: Workload) -> Iterator[Mapping[str, Any]]:
    if one.secrets:
        items = [{"key": name, "path": name} for name in sorted(one.secrets)]
        yield {"name": "secrets", "secret": {"secretName": SECRET, "defaultMode": READABLE, "items": items}}
    for pair in one.certificates:
        items = [{"key": file, "path": place} for file, place in pair.files.items()]
        secret = {"secretName": f"weft-{pair.name}", "defaultMode": READABLE, "items": items}
        yield {"name": pair.name, "secret": secret}
    if one.files:
        yield {"name": "config", "configMap": {"name": f"{one.name}-config"}}
    if one.name == "prometheus":
        yield {"name": "rules", "configMap": {"name": "prometheus-rules"}}
    for volume in one.volumes:
        if not volume.gigabytes:
            yield {"name": volume.name, "emptyDir": {}}
        elif volume.shared:
            yield {"name": volume.name, "persistentVolumeClaim": {"claimName": volume.name}}
    if all(volume.path != TMP for volume in one.volumes):
        yield {"name": "tmp", "emptyDir": {}}


def _folders(one: Workload) -> list[str]:
    return sorted({path.rpartition("/")[0] for path in one.files})
