"""Settings of the sinks, read from the environment once, at the entry."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


class ConfigError(ValueError):
    """A setting is missing or wrong; the message is one line."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a sink listens; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """Read `host:port`; `name` is the variable it came from."""
        host, separator, port = text.rpartition(":")
        if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigError(f"{name}: {text!r} is not host:port")
        return cls(host.strip("[]"), int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """One sink."""

    intake: Address
    """Where it receives: WEFT_LISTEN_OTLP or WEFT_LISTEN_SMTP."""
    http: Address
    """Where it is asked: WEFT_LISTEN_HTTP."""
    store: Path
    """Its SQLite file: WEFT_STORE. The directory must exist."""
    log_level: str
    """Least severe level that is logged: WEFT_LOG_LEVEL, info unless set."""
    logs: Path | None = None
    """Directory of the logs of the mesh's processes: WEFT_LOGS. Only the trace sink looks there."""
    zipkin: Address | None = None
    """A Zipkin that gets every span as well: WEFT_ZIPKIN. Only the trace sink has spans."""

    @classmethod
    def from_environ(cls, intake: str) -> Self:
        """`intake`: the variable that names where it receives."""
        environ = os.environ  # noqa: TID251 - the one door
        values = {name: environ.get(name, "") for name in (intake, "WEFT_LISTEN_HTTP", "WEFT_STORE")}
        for name, value in values.items():
            if not value:
                raise ConfigError(f"{name}: is not set")
        return cls(
            intake=Address.parse(intake, values[intake]),
            http=Address.parse("WEFT_LISTEN_HTTP", values["WEFT_LISTEN_HTTP"]),
            store=Path(values["WEFT_STORE"]),
            log_level=environ.get("WEFT_LOG_LEVEL", "info"),
            logs=Path(environ["WEFT_LOGS"]) if environ.get("WEFT_LOGS") else None,
            zipkin=Address.parse("WEFT_ZIPKIN", environ["WEFT_ZIPKIN"]) if environ.get("WEFT_ZIPKIN") else None,
        )
