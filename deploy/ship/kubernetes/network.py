"""Who may call whom: nobody, but those whom a workload names, on the ports it names, at both ends."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from deploy.ship.errors import ShipError
from deploy.ship.kubernetes.names import NAMESPACE, metadata, selector
from deploy.ship.workload import Workload

SCALER_NAMESPACE: Final = "keda"
API_PORTS: Final = (443, 6443)
_NAMESPACE: Final = "kubernetes.io/metadata.name"


def refusal() -> Mapping[str, Any]:
    """What holds for every pod of the namespace that nothing else is said of."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nobody", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    }


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One workload calls another."""

    source: str
    target: str
    port: int


def edges(workloads: Sequence[Workload]) -> Sequence[Edge]:
    """Every call that there may be. Raises ShipError where a workload names what is not there."""
    by_name = {one.name: one for one in workloads}
    found = set()
    for one in workloads:
        for name, ports in one.calls.items():
            for port in ports:
                if name not in by_name or port not in by_name[name].ports:
                    raise ShipError(f"{one.name} calls {name} on {port}, and there is no such port")
                found.add(Edge(one.name, name, by_name[name].ports[port]))
        if one.metrics:
            found.add(Edge("prometheus", one.name, one.ports[one.metrics]))
    return sorted(found)


def of(one: Workload, every: Sequence[Edge]) -> Mapping[str, Any]:
    """What holds for the pods of one workload, of all edges."""
    spec = {
        "podSelector": selector(one.name),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": list(_ingress(one, [edge for edge in every if edge.target == one.name])),
        "egress": list(_egress(one, [edge for edge in every if edge.source == one.name])),
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(one), "spec": spec}


def _ingress(one: Workload, coming: Sequence[Edge]) -> Iterator[Mapping[str, Any]]:
    for port in sorted({edge.port for edge in coming}):
        peers = [{"podSelector": selector(edge.source)} for edge in coming if edge.port == port]
        yield {"from": peers, "ports": [_port(port)]}
    if one.open_to_clients:
        yield {"ports": [_port(one.ports[port]) for port in one.open_to_clients]}
    if one.name == "prometheus":
        scaler = {"namespaceSelector": {"matchLabels": {_NAMESPACE: SCALER_NAMESPACE}}}
        yield {"from": [scaler], "ports": [_port(one.ports["http"])]}


def _egress(one: Workload, going: Sequence[Edge]) -> Iterator[Mapping[str, Any]]:
    names = {"matchLabels": {_NAMESPACE: "kube-system"}}
    dns = {"namespaceSelector": names, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}
    yield {"to": [dns], "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}
    for target in sorted({edge.target for edge in going}):
        ports = [_port(edge.port) for edge in going if edge.target == target]
        yield {"to": [{"podSelector": selector(target)}], "ports": ports}
    if one.name == "prometheus":
        # Kubernetes itself, whose address is nobody's to know here.
        yield {"ports": [_port(port) for port in API_PORTS]}


def _port(port: int) -> Mapping[str, Any]:
    return {"protocol": "TCP", "port": port}
