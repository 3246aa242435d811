"""Where things lie below a data directory, and who may read them.

The marker file says that the directory is ours: nothing is ever written into, or removed from, a directory without it.
Directories of servers belong to the account they run under (`account.py`); everything else to the supervisor's user.
"""

import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from deploy.supervisor.account import Account
from deploy.supervisor.errors import ConfigError

MARKER = ".weft-data"
SOCKET_PATH_MAX = 107
"""sun_path of unix(7), less the final NUL."""
SOCKET_LONGEST = "data/postgres-1/socket/.s.PGSQL.65535"
"""The longest path of a unix socket below a data directory."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one mesh."""

    root: Path
    ha: bool = False
    """Of the profile `ha`: its servers and the profile's without it keep their data apart."""

    @property
    def run(self) -> Path:
        """Sockets, locks and records of the running mesh."""
        return self.root / "run"

    @property
    def log(self) -> Path:
        """One log file per process."""
        return self.root / "log"

    @property
    def secrets(self) -> Path:
        """Credentials: 0600 files, see `secrets.py`."""
        return self.root / "secrets"

    @property
    def authority(self) -> Path:
        """The certificate that clients of the gateways trust; the one file that everybody may read."""
        return self.root / "ca.crt"

    @property
    def edge_tls(self) -> Path:
        """The certificate that gateways show, see `edge_certificate.py`."""
        return self.secrets / "edge-tls"

    @property
    def tls_secret(self) -> Path:
        """What tells Envoy where that certificate lies."""
        return self.run / "edge-tls.json"

    @property
    def identities(self) -> Path:
        """By what the mesh's parts know each other, a directory for each, see `workload_certificates.py`."""
        return self.root / "identities"

    @property
    def hop_secrets(self) -> Path:
        """What tells Envoy where its own identity lies."""
        return self.run

    @property
    def contracts(self) -> Path:
        """The compiled contracts that are published."""
        return self.root / "contracts"

    @property
    def state(self) -> Path:
        """What processes knew last of each other, for a start without a registry."""
        return self.data / "state" if self.ha else self.root / "state"

    @property
    def slo(self) -> Path:
        """The rules that watch the objectives of the contracts that are published."""
        return self.run / "slo.yml"

    @property
    def socket(self) -> Path:
        """The daemon's socket."""
        return self.run / "supervisor.sock"

    @property
    def lock(self) -> Path:
        """Held by the daemon as long as it lives."""
        return self.run / "supervisor.lock"

    @property
    def desired(self) -> Path:
        """The desired state, see `desired.py`."""
        return self.run / "desired.json"

    @property
    def ports(self) -> Path:
        """Which port each part was given."""
        return self.run / "ports.json"

    @property
    def processes(self) -> Path:
        """Which processes were started, see `record.py`."""
        return self.run / "processes.json"

    @property
    def data(self) -> Path:
        """The data of servers."""
        return self.root / ("ha" if self.ha else "data")

    def home(self, name: str) -> Path:
        """The data directory of one part."""
        return self.data / name

    def log_of(self, name: str) -> Path:
        """The log file of one part."""
        return self.log / f"{name}.log"

    def prepare(self, account: Account | None) -> None:
        """Make the tree. Raises ConfigError when the place is not ours, not reachable or not writable."""
        if len(os.fsencode(self.root / SOCKET_LONGEST)) > SOCKET_PATH_MAX:
            raise ConfigError(f"WEFT_DATA={self.root} is too long for a unix socket below it; choose a shorter path")
        if account is not None:
            _require_traversable(self.root, account)
        try:
            if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / MARKER).exists():
                raise ConfigError(f"WEFT_DATA={self.root} holds files that are not Weft's; choose an empty directory")
            self.root.mkdir(parents=True, exist_ok=True)
            self.root.chmod(0o711)
            (self.root / MARKER).touch()
            for path, mode in (
                (self.run, 0o711),
                (self.data, 0o711),
                (self.log, 0o700),
                (self.secrets, 0o700),
                (self.state, 0o700),
            ):
                path.mkdir(exist_ok=True)
                path.chmod(mode)
        except OSError as error:
            raise ConfigError(
                f"WEFT_DATA={self.root} cannot be used: {error.strerror}; choose another place"
            ) from error
        if account is not None:
            _require_traversable(self.root, account)

    def private(self, path: Path, account: Account | None) -> Path:
        """`path` as a directory only its owner (`account`, or the supervisor's user) can enter."""
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o700)
        if account is not None:
            os.chown(path, account.uid, account.gid)
        return path

    def write(self, path: Path, text: str, account: Account | None) -> Path:
        """`text` as a 0600 file of its owner, replaced at once and never seen half written."""
        temporary = path.with_name(f".{path.name}.new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        if account is not None:
            os.chown(temporary, account.uid, account.gid)
        temporary.replace(path)
        return path

    def remove(self) -> bool:
        """Remove everything; False when there is nothing. Raises ConfigError where the marker is missing."""
        if not self.root.exists():
            return False
        if not (self.root / MARKER).exists():
            raise ConfigError(f"{self.root} carries no {MARKER} file, so it is not Weft's to remove")
        shutil.rmtree(self.root)
        return True


def _require_traversable(root: Path, account: Account) -> None:
    for folder in (root, *root.parents):
        if not folder.exists():
            continue
        status = folder.stat()
        bit = stat.S_IXUSR if status.st_uid == account.uid else stat.S_IXOTH
        if status.st_gid == account.gid and status.st_uid != account.uid:
            bit = stat.S_IXGRP
        if not status.st_mode & bit:
            raise ConfigError(
                f"WEFT_DATA={root}: user {account.name} cannot enter {folder}; choose a place it can reach"
            )
