"""Every file of `deploy/k8s/base`: a kustomization for the servers, one for the mesh, one for each stage of jobs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.ship import files
from deploy.ship.kubernetes import certificates, network, objects
from deploy.ship.kubernetes.names import NAMESPACE
from deploy.ship.workload import Stage, Volume, Workload
from deploy.supervisor.part import Kind
from weft_protos.identity import Identity

FORM: Final = "kubernetes"
RULES: Final = "servers/rules"
OURS: Final = (Kind.SERVICE, Kind.WORKER, Kind.GATEWAY, Kind.CONTROL_PLANE)


def build(
    workloads: Sequence[Workload],
    *,
    rules: Mapping[str, str],
    nodes: Sequence[str],
    parts: Mapping[Identity, Sequence[str]],
) -> Mapping[str, str]:
    """Files by their path below the base.

    `rules`: Prometheus' by name; `nodes`: hosts of the database's servers; `parts`: as `certificates.all_of` has it.
    """
    every = network.edges(workloads)
    of = {one.name: list(objects.of(one, every)) for one in workloads}
    stages = {stage: [one for one in workloads if one.stage is stage] for stage in Stage}
    mesh = [one for one in workloads if one.kind in OURS]
    servers = [one for one in workloads if one.stage is None and one not in mesh]
    found: dict[str, str] = {}
    found |= _kustomized(
        "servers",
        {
            "namespace": [_namespace()],
            "network": [network.refusal()],
            "certificates": certificates.all_of(
                _names_of(nodes), {part: _names_of(hosts) for part, hosts in parts.items()}
            ),
            **{one.name: of[one.name] for one in servers},
        },
        {"configMapGenerator": [{"name": "prometheus-rules", "files": [f"rules/{name}" for name in sorted(rules)]}]},
    )
    found |= {f"{RULES}/{name}": text for name, text in rules.items()}
    found |= _kustomized(
        "mesh",
        {"volumes": list(objects.shared(_shared(mesh))), **{one.name: of[one.name] for one in mesh}},
    )
    for stage, ones in stages.items():
        found |= _kustomized(stage.value, {one.name: of[one.name] for one in ones})
    return found


def _kustomized(
    folder: str, resources: Mapping[str, Sequence[Mapping[str, Any]]], more: Mapping[str, Any] | None = None
) -> Mapping[str, str]:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": [f"{name}.yaml" for name in resources],
        **(more or {}),
    }
    written = {f"{folder}/{name}.yaml": files.dumped(FORM, *objects_) for name, objects_ in resources.items()}
    return {f"{folder}/kustomization.yaml": files.dumped(FORM, kustomization), **written}


def _namespace() -> Mapping[str, Any]:
    # Whoever writes a pod that asks for more than these ask for is refused.
    enforced = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    labels = {"app.kubernetes.io/part-of": "weft", **enforced}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _names_of(nodes: Sequence[str]) -> Sequence[str]:
    """All that a server may be called: within the namespace, and whole."""
    return [*nodes, *(f"{node}.{NAMESPACE}.svc.cluster.local" for node in nodes)]


def _shared(workloads: Sequence[Workload]) -> Sequence[Volume]:
    return sorted(
        {volume for one in workloads for volume in one.volumes if volume.shared}, key=lambda volume: volume.name
    )
