"""The database servers of a mesh, what is made in them, and who measures them: one server, or three under Patroni."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from deploy.supervisor.account import Account
from deploy.supervisor.desired import Desired
from deploy.supervisor.layout import Layout
from deploy.supervisor.part import Part, Server, Task
from deploy.supervisor.ports import Ports
from deploy.supervisor.secrets import DATABASES, Secrets
from deploy.supervisor.servers import patroni, postgres, postgres_exporter

_MEMBERS = ("postgres-1", "postgres-2", "postgres-3")


@dataclass(frozen=True, slots=True)
class Databases:
    """All of them, as data."""

    members: tuple[patroni.Member, ...]
    layout: Layout
    account: Account | None
    secrets: Secrets
    durable: bool

    @classmethod
    def of(cls, desired: Desired, layout: Layout, *, ports: Ports, secrets: Secrets, account: Account | None) -> Self:
        """Those that are desired; their ports are given away."""
        members = tuple(
            patroni.Member(name, ports.get(name), ports.get(f"{name}.api") if desired.ha else 0)
            for name in _MEMBERS[: 3 if desired.ha else 1]
        )
        return cls(members, layout, account, secrets, durable=not desired.ephemeral)

    @property
    def ports(self) -> list[int]:
        """Where they listen."""
        return [member.port for member in self.members]

    @property
    def _elected(self) -> bool:
        return len(self.members) > 1

    def parts(self, etcd: Sequence[str]) -> list[Part]:
        """The servers, and `databases`, which makes roles and databases. `etcd`: where Patroni elects."""
        password = self.secrets.password("postgres")
        owners = [postgres.Owner(name, self.secrets.password(f"database-{name}")) for name in DATABASES]
        monitor = postgres.Owner(postgres_exporter.ROLE, self.secrets.password("database-monitor"))

        async def ensure() -> None:
            if self._elected:
                await patroni.bring_up_to_date(self.members, self.secrets.password("patroni"))
            await postgres.ensure_databases(self.ports, password, owners)
            await postgres.ensure_monitor(self.ports, password, monitor)

        servers = self._cluster(etcd) if self._elected else [self._single(password)]
        ensured = Task(name="databases", run=ensure, after=tuple(server.name for server in servers))
        return [*servers, ensured]

    def exporters(self, ports: Ports) -> list[Part]:
        """Who measures them: one for each server."""
        return [
            postgres_exporter.server(
                name,
                self.layout,
                self.account,
                port=ports.get(name),
                database_port=member.port,
                password=self.secrets.password("database-monitor"),
            )
            for member in self.members
            for name in [member.name.replace("-", "-exporter-") if self._elected else "postgres-exporter"]
        ]

    def _single(self, password: str) -> Server:
        member = self.members[0]
        return postgres.server(
            member.name, self.layout, self.account, port=member.port, password=password, durable=self.durable
        )

    def _cluster(self, etcd: Sequence[str]) -> list[Server]:
        cluster = patroni.Cluster(
            etcd=tuple(etcd),
            passwords=patroni.Passwords(
                superuser=self.secrets.password("postgres"),
                replicator=self.secrets.password("postgres-replicator"),
                api=self.secrets.password("patroni"),
                etcd=self.secrets.password("etcd-patroni"),
            ),
            durable=self.durable,
        )
        return [
            patroni.server(member, self.layout, self.account, cluster=cluster, after=("etcd-auth",))
            for member in self.members
        ]
