"""Who signs, and what is signed: objects of cert-manager, which renews them by itself.

One authority for everything inside. What the gateways show to clients is signed by it as well until the overlay names
an issuer that clients trust. The identity of each workload would be one more Certificate here, of the same authority.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.ship.kubernetes.names import NAMESPACE
from deploy.ship.ours import EDGE_NAME

AUTHORITY: Final = "weft-authority"
_SELF_SIGNED: Final = "weft-self-signed"
_API: Final = "cert-manager.io/v1"
_DAY_H: Final = 24


def all_of(nodes: Sequence[str]) -> Sequence[Mapping[str, Any]]:
    """The authority, and every certificate. `nodes`: hosts of the database's servers."""
    return [
        _issuer(_SELF_SIGNED, {"selfSigned": {}}),
        _certificate(
            AUTHORITY,
            {"commonName": "Weft", "isCA": True, "usages": ["cert sign", "crl sign"]},
            issuer=_SELF_SIGNED,
            days=3650,
        ),
        _issuer(AUTHORITY, {"ca": {"secretName": AUTHORITY}}),
        _certificate("weft-edge", {"dnsNames": [EDGE_NAME], "usages": ["server auth"]}),
        _certificate(
            "weft-database-node",
            # The server knows its own kind by this name.
            {"commonName": "node", "dnsNames": ["localhost", *nodes], "usages": ["server auth", "client auth"]},
        ),
        _certificate("weft-database-root", {"commonName": "root", "usages": ["client auth"]}),
    ]


def _issuer(name: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": _API, "kind": "Issuer", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _certificate(name: str, spec: Mapping[str, Any], *, issuer: str = AUTHORITY, days: int = 30) -> Mapping[str, Any]:
    return {
        "apiVersion": _API,
        "kind": "Certificate",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "secretName": name,
            **spec,
            "duration": f"{days * _DAY_H}h",
            "renewBefore": f"{days * _DAY_H // 3}h",
            # Of the authority the key stays: who trusts it has to go on trusting what it signed before.
            "privateKey": {
                "algorithm": "ECDSA",
                "size": 256,
                "rotationPolicy": "Never" if spec.get("isCA") else "Always",
            },
            "issuerRef": {"name": issuer, "kind": "Issuer"},
        },
    }
