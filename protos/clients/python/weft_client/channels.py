"""Where the gateways are, and how they are spoken with."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

_OPTIONS: Final[tuple[tuple[str, str | int], ...]] = (
    # The client repeats by itself, and knows more of the contract than gRPC does.
    ("grpc.enable_retries", 0),
    # Nothing is asked of DNS but addresses.
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # A gateway that hangs, or a path that is gone without a word, is noticed within seconds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
)


@dataclass(frozen=True, slots=True)
class Target:
    """An address: `localhost:8080` in clear, `https://shop.example` over TLS."""

    name: str
    secure: bool
    roots: bytes | None = None

    @classmethod
    def of(cls, address: str, ca: str | Path | None = None) -> "Target":
        """Read it; `ca`: a file of certificates to trust, PEM. Raises ValueError, OSError."""
        scheme, divided, name = address.rpartition("://")
        if divided and scheme not in ("http", "https"):
            raise ValueError(f"{address!r}: an address is host:port, http://host:port or https://host:port")
        secure = scheme == "https"
        if ca is not None and not secure:
            raise ValueError(f"{address!r} is spoken with in clear, and needs no ca: write https://{name}")
        name = name.rstrip("/")
        if not name or "/" in name:
            raise ValueError(f"{address!r}: an address has a host, a port, and no path")
        if secure and ":" not in name.rpartition("]")[2]:
            name = f"{name}:443"
        return cls(name, secure, None if ca is None else Path(ca).read_bytes())

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there leaves the machine."""
        host = self.name.rpartition(":")[0].strip("[]") or self.name
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def _options(self) -> list[tuple[str, str | int]]:
        return [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if self.is_loopback else list(_OPTIONS)

    def open(self) -> grpc.Channel:
        """A channel; it connects with the first call."""
        if self.secure:
            return grpc.secure_channel(self.name, grpc.ssl_channel_credentials(self.roots), options=self._options)
        return grpc.insecure_channel(self.name, options=self._options)

    def open_async(self) -> grpc.aio.Channel:
        """A channel of the running event loop."""
        if self.secure:
            return grpc.aio.secure_channel(self.name, grpc.ssl_channel_credentials(self.roots), options=self._options)
        return grpc.aio.insecure_channel(self.name, options=self._options)
