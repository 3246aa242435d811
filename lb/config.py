"""Settings of the balancer; the only place in this package that reads the environment.

`EtcdSettings` is also what services hand to the registry agent, which build it from their own settings.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lb.errors import SettingsError

_PORT_MAX: Final = 65535


class _Environ(BaseSettings):
    """The variables as they stand in the environment."""

    model_config = SettingsConfigDict(env_prefix="WEFT_", extra="ignore")

    instance: str = "control-plane"
    listen: str = ""
    metrics_port: int = 0
    log_level: str = "info"
    etcd: str = ""
    xds: str = ""
    etcd_user: str = "weft"
    secrets: Path | None = None
    state: Path | None = None
    networks: str = ""
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class EtcdSettings:
    """How etcd is reached."""

    endpoints: tuple[str, ...]
    """`host:port` of each member; tried in turn."""
    user: str | None = None
    """User to sign in as. None: etcd asks for nobody."""
    password: str | None = field(default=None, repr=False)
    """The user's password."""
    timeout_s: float = 1.0
    """Longest wait for one answer: an etcd that takes longer is treated as gone, and the next member is asked."""
    lease_ttl_s: int = 5
    """How long an instance counts as alive after its last sign of life. Three renewals fit into it."""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise SettingsError("WEFT_ETCD is not set: give `host:port[,host:port...]`")
        for endpoint in self.endpoints:
            host_port(endpoint, "WEFT_ETCD")
        if (self.user is None) != (self.password is None):
            raise SettingsError("etcd needs both a user and a password, or neither")
        if self.timeout_s >= self.lease_ttl_s:
            raise SettingsError("the lease must outlive the wait for one answer")

    @classmethod
    def from_environ(cls) -> Self:
        """Read WEFT_ETCD, WEFT_ETCD_USER and `etcd.password` of WEFT_SECRETS (no such file: no sign-in)."""
        environ = _read()
        password: str | None = None
        if environ.secrets is not None:
            path = environ.secrets / "etcd.password"
            try:
                password = path.read_text(encoding="utf-8").strip()
            except FileNotFoundError:
                password = None
            except (OSError, UnicodeDecodeError) as error:
                raise SettingsError(f"{path} cannot be read: {error.__class__.__name__}") from error
            if password == "":
                raise SettingsError(f"{path} is empty")
        return cls(
            endpoints=tuple(part.strip() for part in environ.etcd.split(",") if part.strip()),
            user=None if password is None else environ.etcd_user,
            password=password,
        )


@dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    """What one control plane process is told."""

    instance: str
    """Its name: `control-plane-1`."""
    listen: str
    """`host:port` of ADS, reflection and health."""
    metrics_port: int
    """Port of the Prometheus exposition, on the host that is listened on; 0: none."""
    log_level: str
    """Lowest level that is logged."""
    etcd: EtcdSettings
    state: Path | None = None
    """Directory of what was good last; None: a start waits for etcd."""
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()
    """Where endpoints may be; empty: loopback and private networks."""
    identity: Path | None = None
    """Directory of its certificate; None: it is called in clear."""

    @classmethod
    def from_environ(cls) -> Self:
        """Read the process's variables. Raises SettingsError."""
        environ = _read()
        host_port(environ.listen, "WEFT_LISTEN")
        if not 0 <= environ.metrics_port <= _PORT_MAX:
            raise SettingsError(f"WEFT_METRICS_PORT: {environ.metrics_port} is not a port")
        return cls(
            instance=environ.instance,
            listen=environ.listen,
            metrics_port=environ.metrics_port,
            log_level=environ.log_level,
            etcd=EtcdSettings.from_environ(),
            state=environ.state,
            networks=_networks(environ.networks),
            identity=environ.identity,
        )


def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"WEFT_NETWORKS: {error}; give `10.0.0.0/8[,fd00::/8...]`") from error


def host_port(text: str, variable: str) -> tuple[str, int]:
    """Split `host:port` (an IPv6 host in brackets). Raises SettingsError naming the variable."""
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= _PORT_MAX:
        raise SettingsError(f"{variable}: {text!r} is not host:port")
    return host, int(port)


def control_planes(given: Sequence[str]) -> tuple[str, ...]:
    """`host:port` of each control plane: those that are given, else those of WEFT_XDS. Raises SettingsError."""
    named = tuple(given) or tuple(part.strip() for part in _read().xds.split(",") if part.strip())
    if not named:
        raise SettingsError("WEFT_XDS is not set: give `host:port[,host:port...]`")
    for address in named:
        host_port(address, "--xds" if given else "WEFT_XDS")
    return named


def log_level_from_environ() -> str:
    """WEFT_LOG_LEVEL, for commands that need nothing else of the environment."""
    return _read().log_level


def _read() -> _Environ:
    try:
        return _Environ()
    except ValidationError as error:
        first = error.errors()[0]
        variable = "WEFT_" + str(first["loc"][0]).upper()
        raise SettingsError(f"{variable}: {first['msg']}") from error
