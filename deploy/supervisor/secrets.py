"""Credentials of one mesh: made once, kept in 0600 files, handed to processes as a directory, never in argv or environ.

URLs carry a port and are written again at each start; passwords and keys are made once and never change.
A file that others may read is refused, since it may have been read already.
"""

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from deploy.supervisor.errors import ConfigError
from deploy.supervisor.probe import HOST
from weft_protos import mesh_parts

DATABASES = mesh_parts.DATABASES
"""One database, and one role that owns it, per name."""

OPERATOR_EMAIL = "operator@weft.example"


class Secrets:
    """The secrets directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for path in folder.iterdir():
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"secret {path} can be read by others; run: chmod 600 {path}")

    def password(self, name: str) -> str:
        """The password in `<name>.password`, made at first use."""
        return self._once(f"{name}.password", secrets.token_urlsafe(24))

    def cookie(self) -> str:
        """What Erlang nodes know each other by, made at first use."""
        return self._once("rabbitmq.cookie", secrets.token_hex(20))

    def make_application_secrets(self) -> None:
        """Make what services and workers read that does not depend on any port."""
        self._once("cache.key", secrets.token_hex(32))
        self._once("seal.key", secrets.token_hex(32))
        self.operator_email()
        self.password("operator")
        self.password("etcd")
        self.password("letters")

    def operator_email(self) -> str:
        """Where the operator gets mail."""
        return self._once("operator.email", OPERATOR_EMAIL)

    def write_database_urls(self, ports: Sequence[int]) -> None:
        """Write `database-<name>.url` for every database.

        Where there are several servers also `database-<name>.replicas.url`, a line for each: any may be a standby.
        """
        for name in DATABASES:
            self.write(f"database-{name}.url", self.database_url(name, ports))
            replicas = f"database-{name}.replicas.url"
            if len(ports) > 1:
                self.write(replicas, "\n".join(self.database_url(name, [port]) for port in ports))
            else:
                (self.folder / replicas).unlink(missing_ok=True)

    def database_url(self, name: str, ports: Sequence[int]) -> str:
        """SQLAlchemy URL of one database, as the role that owns it; of several servers it finds the one that leads."""
        user = f"{name}:{quote(self.password(f'database-{name}'), safe='')}"
        if len(ports) == 1:
            return f"postgresql+psycopg://{user}@{HOST}:{ports[0]}/{name}"
        hosts = "&".join(f"host={HOST}:{port}" for port in ports)
        return f"postgresql+psycopg://{user}@/{name}?{hosts}&target_session_attrs=read-write"

    def write_amqp_url(self, ports: Sequence[int]) -> str:
        """Write `amqp.url`, one URL for each node with commas between them, and return it."""
        user = f"weft:{quote(self.password('rabbitmq'), safe='')}"
        url = ",".join(f"amqp://{user}@{HOST}:{port}/%2F" for port in ports)
        self.write("amqp.url", url)
        return url

    def _once(self, name: str, value: str) -> str:
        path = self.folder / name
        if not path.exists():
            self.write(name, value)
        stored = path.read_text().strip()
        if not stored:
            raise ConfigError(f"secret {path} is empty; remove it and it is made again, with whatever it unlocks lost")
        return stored

    def write(self, name: str, value: str) -> None:
        """Write one file, whole or not at all.

        It keeps owner and mode; a new one is 0600, and its directory's owner's where root writes it.
        """
        # Through a new file, so that a reader sees the old value or the new one, and nobody else ever sees either.
        path, temporary = self.folder / name, self.folder / f".{name}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
            before = path.stat() if path.exists() else None
            owner = before or self.folder.stat()
            if os.geteuid() == 0:  # nobody else can give a file away
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if before is not None:
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
        temporary.replace(path)
