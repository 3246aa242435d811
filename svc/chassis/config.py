"""Settings of a Python process: one frozen class per concern, read from the environment once, in `__main__`.

This is the only place of the chassis that reads the environment. Secrets are never in the environment: they
are files below `WEFT_SECRETS`, read when asked for, and no `repr` shows one.
"""

import os
import socket
import stat
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lb import bootstrap
from lb.endpoint import zone_name
from weft_protos import lanes

# Size of every symmetric key that lies in a secret file, as hexadecimal text.
KEY_BYTES = 32


class ConfigError(ValueError):
    """A setting is missing or wrong. The message is one line: what, where, what to do; it holds no secret."""


class Address(NamedTuple):
    """Host and port of a server."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, with brackets around an IPv6 host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def reachable(self) -> str:
        """The host as others are told of it, an address; a name is looked up. Raises OSError for one nobody knows."""
        return str(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0][4][0])


def parse_address(text: str) -> Address:
    """Read `host:port` or `[ipv6]:port`."""
    host, separator, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 host is written in brackets")
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not host:port")
    return Address(host, int(port))


def _address(value: Any) -> Any:
    return parse_address(value) if isinstance(value, str) else value


def _addresses(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    found = tuple(parse_address(item) for item in value.split(",") if item.strip())
    if not found:
        raise ValueError("names no host:port")
    return found


def _collector(value: str) -> str:
    if value and (urlsplit(value).scheme not in {"http", "https"} or not urlsplit(value).netloc):
        raise ValueError("is not http://host:port")
    return value


def _lane(value: str) -> str:
    if value and not lanes.is_name(value):
        raise ValueError(f"{value!r} is not a lane (a-z, 0-9 and -, beginning with a letter, 31 at most)")
    return value


OneAddress = Annotated[Address, NoDecode, BeforeValidator(_address)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_addresses)]


class _Concern(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="WEFT_", frozen=True, extra="ignore", hide_input_in_errors=True)


class Process(_Concern):
    """Who this process is and where it listens."""

    instance: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
    """Name, unique in the mesh: `orders-1`."""
    listen: OneAddress
    """Where gRPC is served, and where peers are sent: one address, or a name that means one."""
    metrics_port: Annotated[int, Field(ge=0, le=65535)]
    """Port of the Prometheus exposition, on the host that is listened on; 0 lets the system choose."""
    zone: Annotated[str, AfterValidator(zone_name)] = ""
    """Where it runs: peers and gateways of the same zone prefer it, and it prefers them. Empty: not said."""
    lane: Annotated[str, AfterValidator(_lane)] = ""
    """The lane it is in: only calls that go by that lane come here. Empty: it is a stable one."""
    identity: Path | None = None
    """Directory of the certificate by which others know this part (`lb.credentials`); None: hops are in clear."""
    log_level: Annotated[str, Field(pattern=r"^(debug|info|warning|error)$")] = "info"
    """Least severe level that is logged."""
    crash_points: Path | None = None
    """Tests alone set it: the directory whose files say where this process is to end itself (`crash`)."""
    consumer_sample: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """One call in so many is looked at for the fields its consumer uses; 0: none."""


class Etcd(_Concern):
    """The registry."""

    etcd: Addresses
    """Members of the cluster, tried in turn."""
    etcd_user: str = "weft"
    """User of the registry; used only where the file `etcd.password` exists."""


class Xds(_Concern):
    """The control planes that `xds:///` channels ask for endpoints."""

    xds: Addresses
    """Control planes, tried in this order."""
    state: Path | None = None
    """Directory of what was good last, for a start while none of them answers."""


class CacheSettings(_Concern):
    """Memcached."""

    cache: Addresses
    """Servers; keys are spread over them by consistent hashing."""


class Telemetry(_Concern):
    """Where traces go."""

    otlp_endpoint: Annotated[str, AfterValidator(_collector)] = ""
    """OTLP/gRPC collector, `http://host:port`; empty: spans are not exported."""
    trace_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of traces that are kept when this process starts the trace."""


class Secrets(_Concern):
    """The directory of secret files. Each is read when asked for, so that a process touches only what it uses."""

    secrets: Path
    """The directory."""

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return (self.secrets / name).is_file()

    def read(self, name: str) -> str:
        """The text of one file without surrounding white space. Refuses a file that others may read."""
        path = self.secrets / name
        try:
            mode = path.stat().st_mode
            if mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise ConfigError(f"{path}: other users may read or change it; chmod 600 {path}")
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({type(error).__name__}); set WEFT_SECRETS") from None
        if not text:
            raise ConfigError(f"{path}: is empty")
        return text

    def _key(self, name: str) -> bytes:
        try:
            key = bytes.fromhex(self.read(name))
        except ConfigError:
            raise
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise ConfigError(f"{self.secrets / name}: is not {KEY_BYTES} bytes in hexadecimal")
        return key

    def database_url(self, name: str) -> str:
        """SQLAlchemy URL of the database of a service or worker: `orders`."""
        return self.read(f"database-{name}.url")

    def replica_urls(self, name: str) -> tuple[str, ...]:
        """SQLAlchemy URLs of the replicas of that database, a line each in its file; none where there is no file."""
        file = f"database-{name}.replicas.url"
        return tuple(self.read(file).split()) if self.has(file) else ()

    def amqp_url(self) -> str:
        """URL of the broker."""
        return self.read("amqp.url")

    def cache_key(self) -> bytes:
        """Key of the HMAC over cache values and page tokens."""
        return self._key("cache.key")

    def seal_key(self) -> bytes:
        """Key that seals identity's private signing keys."""
        return self._key("seal.key")

    def etcd_password(self) -> str | None:
        """Password of the registry's user; None where the registry asks for none."""
        return self.read("etcd.password") if self.has("etcd.password") else None


ConcernT = TypeVar("ConcernT", bound=_Concern)


def read(concern: type[ConcernT]) -> ConcernT:
    """Read one concern from the environment."""
    try:
        return concern.model_validate({})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "WEFT_" + "_".join(str(part) for part in first["loc"][:1]).upper()
        reason = "is not set" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}: {reason}") from None


class Settings(BaseModel, frozen=True):
    """All concerns of one process."""

    process: Process
    etcd: Etcd
    xds: Xds
    cache: CacheSettings
    telemetry: Telemetry
    secrets: Secrets

    @classmethod
    def read(cls) -> Self:
        """Read every concern from the environment; `ConfigError` names the first that is wrong."""
        return cls(
            process=read(Process),
            etcd=read(Etcd),
            xds=read(Xds),
            cache=read(CacheSettings),
            telemetry=read(Telemetry),
            secrets=read(Secrets),
        )

    @classmethod
    def from_environ(cls) -> Self:
        """The same for a process's entry: a wrong setting ends the process with one line and status 2."""
        try:
            return cls.read()
        except ConfigError as error:
            print(f"weft: {error}", file=sys.stderr)
            raise SystemExit(2) from None


def install_control_planes(settings: Settings, *, service: str) -> None:
    """Tell gRPC where the control planes are. It reads them once, with the first `xds:///` channel of the process."""
    control_planes = [str(address) for address in settings.xds.xds]
    environ = os.environ  # noqa: TID251 - gRPC takes its bootstrap from the environment and from nowhere else
    process = settings.process
    client = bootstrap.Client(process.instance, service, process.zone, process.identity)
    bootstrap.install(environ, control_planes, client)
