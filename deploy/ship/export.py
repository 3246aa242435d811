"""Both forms, whole: what `weft export` writes, and a test holds against what is committed."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.ship import compose, files, scraping
from deploy.ship.addresses import Addresses, Compose, Kubernetes
from deploy.ship.errors import ShipError
from deploy.ship.kubernetes import bundle
from deploy.ship.ours import DATABASE_NODES, Ours
from deploy.ship.servers import Servers
from deploy.ship.workload import Workload
from deploy.supervisor.config import PROJECT, Settings, child_environ
from deploy.supervisor.desired import Desired
from deploy.supervisor.stack import IDENTITIES
from weft_protos import identity
from weft_protos.identity import Identity

COMPOSE: Final = PROJECT / "deploy" / "compose"
KUBERNETES: Final = PROJECT / "deploy" / "k8s" / "base"
FORMS: Final[Mapping[str, Path]] = {"compose": COMPOSE, "kubernetes": KUBERNETES}
"""Where each form lies unless somebody says otherwise."""
MARKS: Final[Mapping[str, str]] = {"compose": "compose.yaml", "kubernetes": "servers/kustomization.yaml"}
"""By which file a directory is known to hold it."""
KEEPS: Final = ("secrets/", ".env", "compose.override.yaml")
"""What users put beside a compose file."""


def desired() -> Desired:
    """The state that is written: that of `weft up` in the profiles production and ha, and nobody's own settings."""
    settings = Settings.from_environ({"WEFT_PROFILE": "production,ha", "WEFT_DATA": "/var/lib/weft"})
    return Desired.of(settings)


def identities(addresses: Addresses) -> Mapping[Identity, Sequence[str]]:
    """Whoever has an identity in containers, with the hosts that others call it by and check it for."""
    state = desired()
    called = {identity.CONTROL_PLANE: addresses.members("control-plane", state.sizes["control-plane"])}
    # Nobody supervises there.
    parts = [part for part in IDENTITIES if part != identity.SUPERVISOR] if state.mtls else []
    return {part: called.get(part, ()) for part in parts}


def workloads(form: str) -> list[Workload]:
    """Every part, as it is told of the others in one form."""
    addresses: Addresses = Compose() if form == "compose" else Kubernetes()
    state = desired()
    ours = Ours(state, addresses).all()
    if form == "compose":
        unscraped = Servers(state, addresses, scrape={}).all()
        scrape = scraping.from_files([*unscraped, *ours])
    else:
        scrape = scraping.from_pods()
    return [*Servers(state, addresses, scrape=scrape).all(), *ours]


def build(form: str) -> Mapping[str, str]:
    """Every file of a form by its path. Raises ShipError."""
    every = workloads(form)
    if form == "compose":
        return {"compose.yaml": files.dumped(form, compose.build(every)), **compose.files(every)}
    nodes = Kubernetes().members("cockroach", DATABASE_NODES)
    return bundle.build(every, rules=rules(), nodes=nodes, parts=identities(Kubernetes()))


def rules() -> Mapping[str, str]:
    """Rule files of Prometheus: the house's own, and those that watch the contracts. Raises ShipError."""
    with tempfile.TemporaryDirectory(prefix="weft-export-") as folder:
        watching = Path(folder) / "slo.yml"
        command = [sys.executable, "-m", "gateway", "slo", "--out", str(watching)]
        done = subprocess.run(
            command, cwd=PROJECT, env=child_environ(), capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()
            raise ShipError(said[-1] if said else f"gateway slo ended with {done.returncode}")
        compiled = watching.read_text()
    return {**{path.name: path.read_text() for path in scraping.RULES}, "slo.yml": compiled}


def stale(form: str, folder: Path) -> list[str]:
    """Files of a form that are not what they should be. Raises ShipError."""
    return [name for name in files.stale(folder, build(form)) if not name.startswith(KEEPS)]


def write(form: str, folder: Path) -> list[str]:
    """Write a form; paths that changed. Raises ShipError where the directory holds something else, and OSError."""
    if folder.exists() and not (folder / MARKS[form]).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ShipError(f"{folder} is there and was not written by this command; name another directory")
    return files.write(folder, build(form), keeps=KEEPS)
