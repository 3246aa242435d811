"""The objects of one workload: who it is, what runs it, under which name others find it, how many may be away."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deploy.ship.kubernetes import network, pods, scaling
from deploy.ship.kubernetes.names import NAMESPACE, metadata, selector
from deploy.ship.workload import Volume, Workload

Object = Mapping[str, Any]
TRIES: Final = 10
KEPT_S: Final = 86_400
"""A day, to look at what a job said."""


def of(one: Workload, every: Sequence[network.Edge]) -> Iterator[Object]:
    """Everything of a workload. `every`: who calls whom."""
    yield {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(one),
        "automountServiceAccountToken": False,
    }
    if one.files:
        data = {path.rpartition("/")[2]: text for path, text in one.files.items()}
        yield {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(one, name=f"{one.name}-config"),
            "data": data,
        }
    if one.name == "prometheus":
        yield from _reader_of_pods(one)
    if one.stage:
        yield _job(one)
    else:
        yield _stateful(one) if one.named else _deployment(one)
        yield from _services(one)
        if one.size > 1:
            spec = {"maxUnavailable": 1, "selector": selector(one.name)}
            yield {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": metadata(one),
                "spec": spec,
            }
        yield from scaling.of(one)
    yield network.of(one, every)


def shared(volumes: Sequence[Volume]) -> Iterator[Object]:
    """Volumes of several parts: they have to be such that pods of several machines may write to."""
    for volume in volumes:
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": volume.name, "namespace": NAMESPACE},
            "spec": {"accessModes": ["ReadWriteMany"], **_size(volume)},
        }


def _deployment(one: Workload) -> Object:
    spec: dict[str, Any] = {
        # Nobody is missed while a new instance starts; where the load decides how many there are, this does not.
        **({} if one.bounds else {"replicas": one.size}),
        "revisionHistoryLimit": 5,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "selector": selector(one.name),
        "template": pods.template(one),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(one), "spec": spec}


def _stateful(one: Workload) -> Object:
    claims = [
        {
            "metadata": {"name": volume.name},
            "spec": {"accessModes": ["ReadWriteOnce"], **_size(volume)},
        }
        for volume in one.volumes
        if volume.gigabytes and not volume.shared
    ]
    spec: dict[str, Any] = {
        "replicas": one.size,
        "serviceName": one.name,
        # Named from 1, as everywhere else.
        "ordinals": {"start": 1},
        # Members of a cluster wait for each other.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "RollingUpdate"},
        "selector": selector(one.name),
        "template": pods.template(one),
    }
    if claims:
        spec["volumeClaimTemplates"] = claims
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata(one), "spec": spec}


def _job(one: Workload) -> Object:
    spec = {"backoffLimit": TRIES, "ttlSecondsAfterFinished": KEPT_S, "template": pods.template(one)}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(one), "spec": spec}


def _services(one: Workload) -> Iterator[Object]:
    ports = [{"name": name, "port": port, "targetPort": name} for name, port in one.ports.items()]
    inside: dict[str, Any] = {"selector": selector(one.name)["matchLabels"], "ports": ports}
    if one.named:
        # Members have to find each other before any of them is ready.
        inside |= {"clusterIP": "None", "publishNotReadyAddresses": one.size > 1}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata(one), "spec": inside}
    if one.open_to_clients:
        open_ = [{"name": name, "port": 443, "targetPort": name} for name in one.open_to_clients]
        # The addresses of clients are what limits by address go by.
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", **inside, "ports": open_}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata(one, name="edge"), "spec": spec}


def _reader_of_pods(one: Workload) -> Iterator[Object]:
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]
    yield {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata(one), "rules": rules}
    yield {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(one),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": one.name},
        "subjects": [{"kind": "ServiceAccount", "name": one.name, "namespace": NAMESPACE}],
    }


def _size(volume: Volume) -> Mapping[str, Any]:
    return {"resources": {"requests": {"storage": f"{volume.gigabytes}Gi"}}}
