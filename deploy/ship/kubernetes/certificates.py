"""Who signs, and what is signed: objects of cert-manager, which renews them by itself.

One authority for what servers show. What the gateways show to clients is signed by it as well until the overlay names
an issuer that clients trust. The identity of each workload is signed by another one, which signs nothing else: whoever
shows a certificate of it is a part of the mesh.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from deploy.ship.kubernetes.names import NAMESPACE
from deploy.ship.ours import EDGE_NAME, identity_of
from weft_protos.identity import Identity

AUTHORITY: Final = "weft-authority"
WORKLOAD_AUTHORITY: Final = "weft-workload-authority"
_SELF_SIGNED: Final = "weft-self-signed"
_API: Final = "cert-manager.io/v1"
_DAY_H: Final = 24


def all_of(nodes: Sequence[str], parts: Mapping[Identity, Sequence[str]]) -> Sequence[Mapping[str, Any]]:
    """The authorities, and every certificate.

    `nodes`: hosts of the database's servers; `parts`: whoever has an identity, with the hosts it is called by.
    """
    return [
        _issuer(_SELF_SIGNED, {"selfSigned": {}}),
        _certificate(
            AUTHORITY,
            {"commonName": "Weft", "isCA": True, "usages": ["cert sign", "crl sign"]},
            issuer=_SELF_SIGNED,
            days=3650,
        ),
        _issuer(AUTHORITY, {"ca": {"secretName": AUTHORITY}}),
        *(_identities(parts) if parts else ()),
        _certificate("weft-edge", {"dnsNames": [EDGE_NAME], "usages": ["server auth"]}),
        _certificate(
            "weft-database-node",
            # The server knows its own kind by this name.
            {"commonName": "node", "dnsNames": ["localhost", *nodes], "usages": ["server auth", "client auth"]},
        ),
        _certificate("weft-database-root", {"commonName": "root", "usages": ["client auth"]}),
    ]


def _identities(parts: Mapping[Identity, Sequence[str]]) -> Iterator[Mapping[str, Any]]:
    signing = {"commonName": "Weft workloads", "isCA": True, "usages": ["cert sign", "crl sign"]}
    yield _certificate(WORKLOAD_AUTHORITY, signing, issuer=_SELF_SIGNED, days=3650)
    yield _issuer(WORKLOAD_AUTHORITY, {"ca": {"secretName": WORKLOAD_AUTHORITY}})
    for part, hosts in parts.items():
        said = {
            "commonName": str(part),
            "uris": [part.uri],
            "dnsNames": [part.dns, *hosts],
            "usages": ["server auth", "client auth"],
        }
        made = _certificate(f"weft-{identity_of(part).name}", said, issuer=WORKLOAD_AUTHORITY)
        # As short as those that the supervisor makes: renewed when half of a day has passed.
        made["spec"].update({"duration": f"{_DAY_H}h", "renewBefore": f"{_DAY_H // 2}h"})
        yield made


def _issuer(name: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": _API, "kind": "Issuer", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _certificate(name: str, spec: Mapping[str, Any], *, issuer: str = AUTHORITY, days: int = 30) -> dict[str, Any]:
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
