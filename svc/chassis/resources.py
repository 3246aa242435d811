"""What a process works with, opened when first asked for and closed by `lifecycle` in the order that suits calls.

Services get one in `wiring.build`; workers, too. Nothing is opened that the process does not use: a relay needs no
registry, an e-mail worker no cache.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import grpc
import structlog
from opentelemetry.trace import Tracer

from lb import channel as channels
from lb.config import EtcdSettings
from lb.credentials import Credentials
from lb.errors import SettingsError
from lb.lastgood import LastGood
from lb.registry.agent import Agent
from svc.chassis import metrics, replicas, telemetry
from svc.chassis.cache.store import Cache
from svc.chassis.config import ConfigError, Settings
from svc.chassis.consistency import ReadTokens
from svc.chassis.criticality import Courier
from svc.chassis.database import Database

# Connections of an instance to its database: two busy cores of PostgreSQL serve no more, and seven instances with
# the workers stay below its usual limit of 100.
DATABASE_CONNECTIONS: Final = 8
# Leaving etcd's connections at the end.
AGENT_STOP_S: Final = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """Something that runs beside the calls, as two functions."""

    name: str
    start: Callable[[], None]
    stop: Callable[[], None]


class Resources:
    """Belongs to one process. Thread-safe once `build` has returned."""

    def __init__(self, settings: Settings, *, name: str) -> None:
        """Opens nothing."""
        self.settings = settings
        self.name = name
        self.tasks: list[Task] = []
        self._checks: dict[str, Callable[[], object]] = {}
        self._channels: dict[str, grpc.Channel] = {}
        self._lock = threading.Lock()

    @cached_property
    def credentials(self) -> Credentials | None:
        """What the process shows of itself to others of the mesh; None where hops are in clear. Raises ConfigError."""
        identity = self.settings.process.identity
        try:
            return None if identity is None else Credentials(identity)
        except SettingsError as error:
            raise ConfigError(str(error)) from error

    @cached_property
    def database(self) -> Database | None:
        """The database that bears the process's name; None where it has none."""
        if not self.settings.secrets.has(f"database-{self.name}.url"):
            return None
        secrets = self.settings.secrets
        database = replicas.opened(
            secrets.database_url(self.name),
            replicas=secrets.replica_urls(self.name),
            pool_size=DATABASE_CONNECTIONS,
            name=self.name,
        )
        if isinstance(database, replicas.Replicated):
            self.add_background("replicas", database.start, database.stop)
        return database

    @cached_property
    def read_tokens(self) -> ReadTokens | None:
        """Makes and reads read tokens; None where there is no key to sign them with."""
        secrets = self.settings.secrets
        return ReadTokens(secrets.cache_key()) if secrets.has("cache.key") else None

    @cached_property
    def cache(self) -> Cache:
        """Memcached."""
        return Cache(self.settings.cache.cache, key=self.settings.secrets.cache_key())

    @cached_property
    def agent(self) -> Agent:
        """The registry: registration, published and watched documents. Runs from now on."""
        agent = Agent(
            self.etcd_settings,
            last_good=None if self.settings.xds.state is None else LastGood(self.settings.xds.state),
            on_registration=self._registered,
            on_renewal=lambda outcome: metrics.LEASE_RENEWALS.labels(outcome=outcome).inc(),
        )
        agent.start()
        return agent

    @property
    def etcd_settings(self) -> EtcdSettings:
        """Where the registry is, and as whom it is asked."""
        etcd, password = self.settings.etcd, self.settings.secrets.etcd_password()
        return EtcdSettings(
            endpoints=tuple(str(member) for member in etcd.etcd),
            user=None if password is None else etcd.etcd_user,
            password=password,
        )

    def _registered(self, registered: bool) -> None:
        # Only where there is something to register: a worker that reads and publishes documents is not missing.
        state = metrics.REGISTRATION_STATE.labels(service=self.name, instance=self.settings.process.instance)
        state.set(1 if registered else 0)

    @cached_property
    def courier(self) -> Courier:
        """Tells peers how much a call matters, and believes them."""
        secrets = self.settings.secrets
        return Courier(secrets.cache_key() if secrets.has("cache.key") else None)

    @property
    def tracer(self) -> Tracer:
        """The process's tracer."""
        return telemetry.tracer()

    def channel(self, service: str) -> grpc.Channel:
        """The process's one channel to another service of the mesh; it connects with the first call."""
        with self._lock:
            if service not in self._channels:
                self._channels[service] = channels.open(
                    service, state=self.settings.xds.state, credentials=self.credentials
                )
            return self._channels[service]

    def add_background(self, name: str, start: Callable[[], None], stop: Callable[[], None]) -> None:
        """Run something beside the calls: started before the first call, stopped after the last."""
        self.tasks.append(Task(name, start, stop))

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """For each dependency in use, a question that it answers when it works."""
        opened = vars(self)
        checks = dict(self._checks)
        if (database := opened.get("database")) is not None:
            checks["database"] = database.ping
        if (cache := opened.get("cache")) is not None:
            checks["cache"] = cache.ping
        if (agent := opened.get("agent")) is not None:
            checks["registry"] = lambda: agent.registered()
        return checks

    def add_check(self, dependency: str, check: Callable[[], object]) -> None:
        """Ask this, too."""
        self._checks[dependency] = check

    def close(self) -> None:
        """Close what has been opened: channels, cache, database, registry."""
        opened = vars(self)
        for channel in self._channels.values():
            channel.close()
        for name in ("cache", "database"):
            pool: Cache | Database | None = opened.get(name)
            if pool is not None:
                pool.close()
        agent: Agent | None = opened.get("agent")
        if agent is not None:
            agent.stop(AGENT_STOP_S)
