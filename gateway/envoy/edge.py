"""What a deployment decides about the edge and no contract can: where it listens, and how much it shows."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

#: Enough to see what happens, and little enough to keep.
PRODUCTION_TRACE_PERCENT: Final = 5.0


class Profile(StrEnum):
    """How much the edge gives away to whoever finds it."""

    LOCAL = "local"
    """For one's own machine: reflection, a word of welcome, a port in clear."""
    PRODUCTION = "production"
    """For a network: nothing but the contracts' methods, over TLS."""


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the gateway listens, what it shows and how much it traces."""

    address: str = "127.0.0.1"
    port: int | None = 8080
    """In clear; None: there is no such port."""
    tls_port: int = 8443
    trace_percent: float = 100.0
    """Share of the requests that are traced; none that brings a trace which is not sampled."""
    profile: Profile = Profile.LOCAL
    tls_secret: Path = Path("/run/weft/edge-tls.json")
    """The file that tells Envoy where certificate and key lie (`tls.secret`); the same for every gateway."""
    tls_names: tuple[str, ...] = ("localhost",)
    """The names of the certificate, `*.example.com` among them; a client that asks for another one is not served."""
    hop_secrets: Path | None = None
    """Directory of the files by which gateways find their certificate for hops inside; None: these are in clear."""

    @classmethod
    def of(cls, profile: Profile) -> "Edge":
        """The defaults of a profile."""
        if profile is Profile.LOCAL:
            return cls()
        return cls(port=None, trace_percent=PRODUCTION_TRACE_PERCENT, profile=profile)

    @property
    def shows_itself(self) -> bool:
        """Whether strangers may ask what is served here."""
        return self.profile is Profile.LOCAL

    @property
    def joins_traces(self) -> bool:
        """Whether requests may bring a trace of their own: strangers could join another's, or keep out of all."""
        return self.profile is Profile.LOCAL
