"""The supervisor's settings: the only module of deploy that reads the environment.

Read once by the `weft` command and by `Mesh`; the daemon gets them as a file (`desired.py`), never by inheritance.
A misspelt `WEFT_` variable is refused with the nearest name, because a setting nobody obeys is worse than an error.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.supervisor.errors import ConfigError

PROJECT = Path(__file__).resolve().parents[2]
"""The clone the code runs from."""

KNOWN = (
    "WEFT_ARCHIVE_DAYS",
    "WEFT_AUTOSCALE",
    "WEFT_CONSUMER_SAMPLE",
    "WEFT_DATA",
    "WEFT_GATEWAY_PORT",
    "WEFT_GATEWAY_TLS_PORT",
    "WEFT_LOG_LEVEL",
    "WEFT_MTLS",
    "WEFT_OTLP_ENDPOINT",
    "WEFT_PORT_BASE",
    "WEFT_PROFILE",
    "WEFT_REPORT_MEMORY_MB",
    "WEFT_TLS_CERT",
    "WEFT_TLS_KEY",
    "WEFT_TRACE_RATIO",
    "WEFT_TRACES",
    "WEFT_ZIPKIN_JAR",
)
"""Variables a user may set."""

PER_PROCESS = (
    "WEFT_ARCHIVE",
    "WEFT_CACHE",
    "WEFT_CRASH_POINTS",
    "WEFT_CONSOLE",
    "WEFT_DOCS",
    "WEFT_ETCD",
    "WEFT_ETCD_USER",
    "WEFT_IDENTITY",
    "WEFT_INSTANCE",
    "WEFT_LANE",
    "WEFT_LETTERS",
    "WEFT_LISTEN",
    "WEFT_LISTEN_HTTP",
    "WEFT_LISTEN_LETTERS",
    "WEFT_LISTEN_OTLP",
    "WEFT_LISTEN_PAGES",
    "WEFT_LISTEN_SMTP",
    "WEFT_LOGS",
    "WEFT_MAIL",
    "WEFT_METRICS_PORT",
    "WEFT_NETWORKS",
    "WEFT_PROMETHEUS",
    "WEFT_SECRETS",
    "WEFT_SMTP",
    "WEFT_STATE",
    "WEFT_STORE",
    "WEFT_SUPERVISOR",
    "WEFT_TRACE_STORE",
    "WEFT_XDS",
    "WEFT_ZIPKIN",
    "WEFT_ZONE",
)
"""Variables the supervisor sets for each process; tolerated in the user's shell, where they have no effect."""

INHERITED = ("PATH", "HOME", "LANG", "TZ", "PYTHONUNBUFFERED")
"""What every child gets of this machine, whatever it is a child for."""

PROFILES = ("local", "production")
"""What the edge gives away: reflection, a welcome and a port in clear, or nothing but the contracts' methods."""

HA = "ha"
"""The word of `WEFT_PROFILE` for three servers of each kind, alone or beside one of PROFILES."""

ZIPKIN = "zipkin"
TRACES = ("store", ZIPKIN)
"""Where traces are shown: in the built-in store, or in a Zipkin beside it as well."""

PRODUCTION_TRACE_RATIO = 0.05

CONSUMER_SAMPLE = 20
CONSUMER_SAMPLE_MAX = 1_000_000

ARCHIVE_DAYS = 400
ARCHIVE_DAYS_MAX = 36_500
REPORT_MEMORY_MB = 256
REPORT_MEMORY_MB_LEAST = 64
REPORT_MEMORY_MB_MAX = 1_048_576

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a user can choose about the local mesh."""

    data: Path
    """Data, credentials and logs of this mesh; never inside the clone."""
    profile: str = "local"
    """One of PROFILES."""
    ha: bool = False
    """Three members of every server and at least two of everything else, so that any one may go."""
    gateway_port: int | None = 8080
    """Plaintext HTTP/1.1 and h2c port of the gateways; None: they have no such port."""
    gateway_tls_port: int = 8443
    """The same over TLS."""
    tls_certificate: Path | None = None
    """The user's own certificate chain, PEM; None: signed by an authority of the mesh's own."""
    tls_key: Path | None = None
    """The key of that certificate."""
    mtls: bool = False
    """Whether the mesh's own parts encrypt what they say to each other, and know each other by certificates."""
    port_base: int = 21000
    """First port of the block that everything else is given ports from; below Linux's ephemeral range (32768)."""
    log_level: str = "info"
    """Log level of our own processes."""
    trace_ratio: float = 1.0
    """Share of requests that are traced, decided at the head."""
    otlp_endpoint: str = ""
    """OTLP/gRPC endpoint that gets the spans instead of our own sink; empty = our own."""
    traces: str = TRACES[0]
    """One of TRACES."""
    zipkin_jar: Path | None = None
    """The user's own zipkin-server; None: the one Weft knows, fetched when it is asked for."""
    consumer_sample: int = CONSUMER_SAMPLE
    """Services look at one call in so many for the fields its consumer uses; 0: at none, and workers note nothing."""
    archive_days: int = ARCHIVE_DAYS
    """Days that events are kept in the archive: a year, and the month to compare with."""
    report_memory_mb: int = REPORT_MEMORY_MB
    """Most memory of a report's question, in MiB; what does not fit is spilled to the disk."""
    autoscale: bool = True
    """Whether services and workers are sized by their load, within the bounds of `desired.py`."""
    crash_points: Path | None = None
    """Of a test's mesh alone: the directory whose files say where a process ends itself. No variable sets it."""

    def showing(self, traces: str) -> "Settings":
        """The same with traces shown elsewhere. Raises ConfigError for what is not one of TRACES, or has no spans."""
        if traces not in TRACES:
            raise ConfigError(f"WEFT_TRACES={traces} is unknown; use one of {', '.join(TRACES)}")
        if traces == ZIPKIN and self.otlp_endpoint:
            raise ConfigError(
                f"WEFT_TRACES={traces} shows the spans of the built-in store, and WEFT_OTLP_ENDPOINT sends them to "
                f"{self.otlp_endpoint}; unset one of the two"
            )
        return replace(self, traces=traces)

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
        profile, ha = _profile(env)
        production = profile == "production"
        tls = _port(env, "WEFT_GATEWAY_TLS_PORT", 8443)
        # In production nothing is offered in clear unless somebody asks for it by name.
        asked = not production or env.get("WEFT_GATEWAY_PORT")
        gateway = _port(env, "WEFT_GATEWAY_PORT", 8080) if asked else None
        if gateway == tls:
            raise ConfigError(f"WEFT_GATEWAY_PORT and WEFT_GATEWAY_TLS_PORT are both {tls}; give them different ports")
        certificate, key = _tls_files(env)
        return cls(
            data=data,
            profile=profile,
            ha=ha,
            tls_certificate=certificate,
            tls_key=key,
            gateway_port=gateway,
            gateway_tls_port=tls,
            mtls=_switch(env, "WEFT_MTLS", default="on" if production else "off"),
            port_base=_port(env, "WEFT_PORT_BASE", 21000),
            log_level=level,
            trace_ratio=_ratio(env, "WEFT_TRACE_RATIO", PRODUCTION_TRACE_RATIO if production else 1.0),
            otlp_endpoint=_collector(env),
            zipkin_jar=_jar(env),
            consumer_sample=_sample(env),
            archive_days=_whole(env, "WEFT_ARCHIVE_DAYS", ARCHIVE_DAYS, (1, ARCHIVE_DAYS_MAX)),
            report_memory_mb=_whole(
                env, "WEFT_REPORT_MEMORY_MB", REPORT_MEMORY_MB, (REPORT_MEMORY_MB_LEAST, REPORT_MEMORY_MB_MAX)
            ),
            autoscale=_switch(env, "WEFT_AUTOSCALE"),
        ).showing(env.get("WEFT_TRACES") or TRACES[0])


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
    values = (path, env.get("HOME", "/"), "C.UTF-8", "UTC", "1")
    return dict(zip(INHERITED, values, strict=True))


def is_set(name: str) -> bool:
    """Whether a variable is there and not empty."""
    return bool(os.environ.get(name))  # noqa: TID251 - the one door


def terminal_has_colour() -> bool:
    """Whether the terminal can show colours, and nobody has set NO_COLOR to anything (no-color.org)."""
    env = os.environ  # noqa: TID251 - the one door
    return not env.get("NO_COLOR") and env.get("TERM") != "dumb"


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name in sorted(environ):
        if not name.startswith("WEFT_") or name.startswith("WEFT_TEST_") or name in KNOWN or name in PER_PROCESS:
            continue
        near = difflib.get_close_matches(name, KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(KNOWN)}"
        raise ConfigError(f"{name} is set but nothing reads it; {hint}")


def _profile(environ: Mapping[str, str]) -> tuple[str, bool]:
    """What the edge gives away, and whether servers are threefold: `production,ha`."""
    text = environ.get("WEFT_PROFILE") or PROFILES[0]
    words = [word.strip() for word in text.split(",")]
    edges = [word for word in words if word != HA]
    if len(set(words)) != len(words) or len(edges) > 1 or not {*edges} <= {*PROFILES}:
        raise ConfigError(
            f"WEFT_PROFILE={text} is unknown; use one of {', '.join(PROFILES)}, with or without ha: production,ha"
        )
    return (edges[0] if edges else PROFILES[0]), HA in words


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"{name}={text} is not a port; give a number from 1 to 65535")
    return int(text)


def _switch(environ: Mapping[str, str], name: str, *, default: str = "on") -> bool:
    text = environ.get(name) or default
    if text not in ("on", "off"):
        raise ConfigError(f"{name}={text} is neither on nor off")
    return text == "on"


def _collector(environ: Mapping[str, str]) -> str:
    text = environ.get("WEFT_OTLP_ENDPOINT", "")
    if text and not re.fullmatch(r"http://[^/:\s]+:[0-9]{1,5}/?", text):
        raise ConfigError(f"WEFT_OTLP_ENDPOINT={text} is not http://host:port of an OTLP/gRPC collector")
    return text.rstrip("/")


def _jar(environ: Mapping[str, str]) -> Path | None:
    text = environ.get("WEFT_ZIPKIN_JAR")
    if text and not Path(text).is_absolute():
        raise ConfigError(f"WEFT_ZIPKIN_JAR={text} is not an absolute path")
    return Path(text) if text else None


def _tls_files(environ: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """The user's certificate and key; what is in them is looked at when they are used."""
    found: list[Path | None] = []
    for name, other in (("WEFT_TLS_CERT", "WEFT_TLS_KEY"), ("WEFT_TLS_KEY", "WEFT_TLS_CERT")):
        text = environ.get(name)
        if not text and environ.get(other):
            raise ConfigError(f"{other} is set without {name}; a certificate and its key go together")
        if text and not Path(text).is_absolute():
            raise ConfigError(f"{name}={text} is not an absolute path")
        found.append(Path(text) if text else None)
    return found[0], found[1]


def _sample(environ: Mapping[str, str]) -> int:
    text = environ.get("WEFT_CONSUMER_SAMPLE") or str(CONSUMER_SAMPLE)
    if not text.isascii() or not text.isdigit() or int(text) > CONSUMER_SAMPLE_MAX:
        raise ConfigError(
            f"WEFT_CONSUMER_SAMPLE={text} is not a sample; give 20 for one call in 20, 0 for none, at most "
            f"{CONSUMER_SAMPLE_MAX}"
        )
    return int(text)


def _whole(environ: Mapping[str, str], name: str, default: int, bounds: tuple[int, int]) -> int:
    text = environ.get(name) or str(default)
    least, most = bounds
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(f"{name}={text} is not a whole number from {least} to {most}")
    return int(text)


def _ratio(environ: Mapping[str, str], name: str, default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise ConfigError(f"{name}={text} is not a share; give a number from 0 to 1")
    return value
