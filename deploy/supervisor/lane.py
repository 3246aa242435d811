"""A lane as it is desired: which services have instances in it, of which version, and who is sent there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from deploy.supervisor.errors import ConfigError
from weft_protos import lanes

INSTANCES_MAX = 8
"""Of one service in one lane: it is tried, not scaled."""


@dataclass(frozen=True, slots=True)
class LaneSpec:
    """What is wanted of one lane."""

    services: tuple[str, ...]
    instances: int = 1
    """Of each service."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What its instances have in their environment beside what all have."""
    checkout: str = ""
    """The clone whose code they run; empty: that of all others."""
    percent: float = 0.0
    header: str = ""
    claim: str = ""
    value: str = ""
    rolled_back: str = ""
    """Why it was rolled back; empty: it was not. It has no instances then, and nobody enters it."""

    def routing(self, name: str) -> lanes.Lane:
        """What control planes are told. Raises ConfigError for what nobody could obey."""
        try:
            found = lanes.Lane(name, self.services, self.percent, self.header, self.claim, self.value)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return closed(found) if self.rolled_back else found


def closed(lane: lanes.Lane) -> lanes.Lane:
    """The same, entered by nobody."""
    return replace(lane, percent=0.0, header="", claim="", value="")


def of(wanted: Mapping[str, object]) -> LaneSpec:
    """What was sent or stored. Raises ConfigError, TypeError."""
    services, environ = wanted["services"], wanted.get("env", {})
    if not isinstance(services, list | tuple) or not isinstance(environ, Mapping):
        raise ConfigError("a lane names its services, and its environment by name")
    known = {key: value for key, value in wanted.items() if key not in ("services", "env")}
    spec = LaneSpec(tuple(map(str, services)), env={str(key): str(value) for key, value in environ.items()})
    return replace(spec, **known)  # type: ignore[arg-type]


def check(name: str, spec: LaneSpec, *, services: tuple[str, ...], parts: frozenset[str]) -> None:
    """Refuse a lane that cannot be started. `services` can have lanes; `parts` are names that are taken.

    Raises ConfigError.
    """
    spec.routing(name)
    for service in spec.services:
        if service not in services:
            raise ConfigError(f"{service} cannot have a lane; {', '.join(services)} can")
        if f"{service}-{name}" in parts:
            raise ConfigError(f"a lane of {service} cannot be called {name}: {service}-{name} is something else")
    if not 1 <= spec.instances <= INSTANCES_MAX:
        raise ConfigError(f"{spec.instances} instances; give 1 to {INSTANCES_MAX}")
    reserved = [variable for variable in spec.env if variable.startswith("WEFT_")]
    if reserved:
        raise ConfigError(f"{reserved[0]} is the supervisor's to set; a lane differs by variables of its own")
    if spec.checkout and not (Path(spec.checkout) / "svc").is_dir():
        raise ConfigError(f"{spec.checkout} is no clone of the project: it has no svc/")
