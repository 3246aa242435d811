"""The supervisor's settings: the only module of deploy that reads the environment.

Read once by the `weft` command and by `Mesh`; the daemon gets them as a file (`desired.py`), never by inheritance.
A misspelt `WEFT_` variable is refused with the nearest name, because a setting nobody obeys is worse than an error.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.supervisor.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
"""The clone the code runs from."""

KNOWN = (
    "WEFT_DATA",
    "WEFT_GATEWAY_PORT",
    "WEFT_GATEWAY_TLS_PORT",
    "WEFT_LOG_LEVEL",
    "WEFT_OTLP_ENDPOINT",
    "WEFT_PORT_BASE",
    "WEFT_TRACE_RATIO",
)
"""Variables a user may set."""

PER_PROCESS = (
    "WEFT_CACHE",
    "WEFT_CONSUMER_SAMPLE",
    "WEFT_ETCD",
    "WEFT_ETCD_USER",
    "WEFT_INSTANCE",
    "WEFT_LISTEN",
    "WEFT_LISTEN_HTTP",
    "WEFT_LISTEN_OTLP",
    "WEFT_LISTEN_SMTP",
    "WEFT_METRICS_PORT",
    "WEFT_SECRETS",
    "WEFT_SMTP",
    "WEFT_STORE",
    "WEFT_XDS",
)
"""Variables the supervisor sets for each process; tolerated in the user's shell, where they have no effect."""

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can choose about the local mesh."""

    data: Path
    """Data, credentials and logs of this mesh; never inside the clone."""
    gateway_port: int = 8080
    """Plaintext HTTP/1.1 and h2c port of the gateways."""
    gateway_tls_port: int = 8443
    """The same over TLS."""
    port_base: int = 21000
    """First port of the block that everything else is given ports from; below Linux's ephemeral range (32768)."""
    log_level: str = "info"
    """Log level of our own processes."""
    trace_ratio: float = 1.0
    """Share of requests that are traced, decided at the head."""
    otlp_endpoint: str = ""
    """OTLP/gRPC endpoint that gets the spans instead of our own sink; empty = our own."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Settings of this process's environment. Raises ConfigError, one line: what, where, what to do."""
        env = os.environ if environ is None else environ  # noqa: TID251 - the one door
        _refuse_unknown(env)
        data = Path(env.get("WEFT_DATA") or default_data(env))
        if not data.is_absolute():
            raise ConfigError(f"WEFT_DATA={data} is not an absolute path; give one such as /var/lib/weft")
        if data.resolve().is_relative_to(PROJECT):
            raise ConfigError(
                f"WEFT_DATA={data} lies in the clone; credentials do not belong there, choose another place"
            )
        level = env.get("WEFT_LOG_LEVEL", "info").lower()
        if level not in LOG_LEVELS:
            raise ConfigError(f"WEFT_LOG_LEVEL={level} is unknown; use one of {', '.join(LOG_LEVELS)}")
        gateway, tls = _port(env, "WEFT_GATEWAY_PORT", 8080), _port(env, "WEFT_GATEWAY_TLS_PORT", 8443)
        if gateway == tls:
            raise ConfigError(f"WEFT_GATEWAY_PORT and WEFT_GATEWAY_TLS_PORT are both {tls}; give them different ports")
        return cls(
            data=data,
            gateway_port=gateway,
            gateway_tls_port=tls,
            port_base=_port(env, "WEFT_PORT_BASE", 21000),
            log_level=level,
            trace_ratio=_ratio(env, "WEFT_TRACE_RATIO"),
            otlp_endpoint=_collector(env),
        )


def default_data(environ: Mapping[str, str]) -> Path:
    """Where data lies unless WEFT_DATA says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/weft")
    return Path(environ.get("HOME") or "/nonexistent") / ".local" / "share" / "weft"


def child_environ() -> dict[str, str]:
    """What every child inherits: a search path, a home, UTF-8 and UTC.

    Nothing else of the caller's shell: a proxy variable would send loopback gRPC to the proxy, and
    PYTHONDONTWRITEBYTECODE would make every start compile everything again.
    """
    env = os.environ  # noqa: TID251 - the one door
    path = env.get("PATH") or "/usr/local/bin:/usr/bin:/bin"
    return {"PATH": path, "HOME": env.get("HOME", "/"), "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONUNBUFFERED": "1"}


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith("WEFT_") or name.startswith("WEFT_TEST_") or name in KNOWN or name in PER_PROCESS:
            continue
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(KNOWN)}"
        raise ConfigError(f"{name} is set but nothing reads it; {hint}")


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"{name}={text} is not a port; give a number from 1 to 65535")
    return int(text)


def _collector(environ: Mapping[str, str]) -> str:
    text = environ.get("WEFT_OTLP_ENDPOINT", "")
    if text and not re.fullmatch(r"http://[^/:\s]+:[0-9]{1,5}/?", text):
        raise ConfigError(f"WEFT_OTLP_ENDPOINT={text} is not http://host:port of an OTLP/gRPC collector")
    return text.rstrip("/")


def _ratio(environ: Mapping[str, str], name: str) -> float:
    text = environ.get(name) or "1"
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}={text} is not a share; give a number from 0 to 1")
    return value
