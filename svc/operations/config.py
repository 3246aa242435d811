"""Settings that only the operations service has: whom it asks, and which pages it serves.

Everything may be missing: what is not named is away, and what it would have told is missing from the answers.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from svc.chassis.config import Addresses, ConfigError, OneAddress


class Sources(BaseSettings):
    """Where those are who tell about the mesh."""

    model_config = SettingsConfigDict(env_prefix="WEFT_", frozen=True, extra="ignore", hide_input_in_errors=True)

    supervisor: Path | None = None
    """Socket of the supervisor."""
    prometheus: OneAddress | None = None
    """HTTP of Prometheus."""
    trace_store: OneAddress | None = None
    """HTTP of the trace store."""
    mail: OneAddress | None = None
    """HTTP of the mailbox."""
    letters: Annotated[Addresses, NoDecode] | None = None
    """Doors of the workers that look after dead letters, tried in turn."""
    listen_pages: OneAddress | None = None
    """Where pages are served, for the gateway; not said: none are."""
    console: Path | None = None
    """Directory of the console's pages."""
    docs: Path | None = None
    """Directory of the documents' pages."""

    @classmethod
    def read(cls) -> Self:
        """Read it from the environment; `ConfigError` says what is wrong."""
        try:
            return cls.model_validate({})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = f"WEFT_{str(first['loc'][0]).upper()}"
            raise ConfigError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
