"""The secret files of a mesh in containers: made once, kept by whoever runs it, mounted one by one into who reads them.

The same names as under the supervisor, with hosts instead of loopback. For compose the authority and its certificates
are among them; in Kubernetes cert-manager makes those.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from deploy.ship import export, files, ports
from deploy.ship.addresses import Addresses, Compose, Kubernetes, at
from deploy.ship.errors import ShipError
from deploy.ship.kubernetes.names import NAMESPACE, SECRET
from deploy.ship.ours import DATABASE_NODES, DATABASE_TLS, IDENTITY_AUTHORITY, identity_of
from deploy.ship.servers import BROKERS
from deploy.supervisor import certificate
from deploy.supervisor.certificate import Pair, Role
from deploy.supervisor.secrets import DATABASES, Secrets
from deploy.supervisor.servers import rabbitmq

VALID: Final = timedelta(days=365)
"""Nobody renews them by himself; making the secrets again does, from so long before their end:"""
RENEW_BEFORE: Final = timedelta(days=60)

_Wanted = tuple[Sequence[str], Sequence[str], Role]
"""The names, the addresses and the purpose of a certificate."""


def make(form: str, folder: Path, *, edge_name: str, now: datetime) -> list[str]:
    """Make what is missing, and what follows from it; the files that containers read. Raises ShipError, ConfigError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets = Secrets(folder)
    addresses: Addresses = Compose() if form == "compose" else Kubernetes()
    secrets.make_application_secrets()
    secrets.password("etcd-root")
    secrets.cookie()
    _write_places(secrets, addresses)
    if form == "compose":
        _sign(secrets, addresses, edge_name, now)
    wanted = sorted({name for one in export.workloads(form) for name in one.secrets})
    if missing := [name for name in wanted if not (folder / name).is_file()]:
        raise ShipError(f"nobody makes {missing[0]}, which a part reads; put it into {folder}")
    if form == "kubernetes":
        (folder / "kustomization.yaml").write_text(_generator(wanted))
        (folder / "kustomization.yaml").chmod(0o600)
    return wanted


def database_url(name: str, password: str, places: Sequence[str]) -> str:
    """SQLAlchemy URL of one database: any of the nodes will do, and each has to prove who it is."""
    hosts = "&".join(f"host={place}" for place in places)
    trust = f"sslmode=verify-full&sslrootcert={DATABASE_TLS}/ca.crt"
    return f"cockroachdb://{name}:{quote(password, safe='')}@/{name}?{hosts}&{trust}&load_balance_hosts=random"


def _write_places(secrets: Secrets, addresses: Addresses) -> None:
    nodes = at(addresses.members("cockroach", DATABASE_NODES), ports.SQL)
    for name in DATABASES:
        secrets.write(f"database-{name}.url", database_url(name, secrets.password(f"database-{name}"), nodes))
    password = secrets.password("rabbitmq")
    user = f"{rabbitmq.USER}:{quote(password, safe='')}"
    brokers = at(addresses.members("rabbitmq", BROKERS), ports.AMQP)
    secrets.write("amqp.url", ",".join(f"amqp://{user}@{broker}/%2F" for broker in brokers))
    secrets.write("rabbitmq.definitions.json", rabbitmq.definitions(password))


def _sign(secrets: Secrets, addresses: Addresses, edge_name: str, now: datetime) -> None:
    nodes = addresses.members("cockroach", DATABASE_NODES)
    wanted: dict[str, _Wanted] = {
        "database-node": (("localhost", *nodes), ("127.0.0.1",), Role("node", calls=True, valid=VALID)),
        "database-root": ((), (), Role("root", serves=False, calls=True, valid=VALID)),
        "edge": ((edge_name, "localhost"), ("127.0.0.1", "::1"), Role("Weft gateway", valid=VALID)),
    }
    _sign_all(secrets, "authority", wanted, now)
    parts = {
        identity_of(part).name: ((part.dns, *hosts), (), Role(str(part), calls=True, valid=VALID, uri=part.uri))
        for part, hosts in export.identities(addresses).items()
    }
    _sign_all(secrets, IDENTITY_AUTHORITY, parts, now)


def _sign_all(secrets: Secrets, signer: str, wanted: Mapping[str, _Wanted], now: datetime) -> None:
    """Have every pair that is wanted, and the authority that signs them, for long enough."""
    authority = _kept(secrets, signer)
    if not certificate.lasts(authority, RENEW_BEFORE, now=now):
        authority = certificate.make_authority(now=now, names=())
        _keep(secrets, signer, authority)
    for name, (hosts, addresses, role) in wanted.items():
        pair = _kept(secrets, name)
        named = set(certificate.names(pair)) == set(hosts) if pair.certificate else False
        if not (named and certificate.lasts(pair, RENEW_BEFORE, now=now) and certificate.signed_by(pair, authority)):
            _keep(secrets, name, authority.issue(hosts, addresses, now=now, role=role))


def _kept(secrets: Secrets, name: str) -> Pair:
    return certificate.read(secrets.folder / f"{name}.crt", secrets.folder / f"{name}.key")


def _keep(secrets: Secrets, name: str, pair: Pair) -> None:
    secrets.write(f"{name}.key", pair.key)
    secrets.write(f"{name}.crt", pair.certificate)


def _generator(names: Sequence[str]) -> str:
    return files.dumped(
        "secrets",
        {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            # Pods name it; who changes one restarts who reads it.
            "generatorOptions": {"disableNameSuffixHash": True},
            "secretGenerator": [{"name": SECRET, "files": list(names)}],
        },
    )
