"""Settings that only workers have, and how much each of them takes at once."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from svc.chassis.config import ConfigError, OneAddress

#: The databases that have an outbox, one for each service; the relay drains them all.
OUTBOXES: Final = ("identity", "catalog", "orders", "analytics")

#: Events of one transaction of the audit and analytics workers: a commit costs the same for one as for fifty, and more
#: would only lose more work to a conflict.
TRANSACTION_BATCH: Final = 50

#: Events of one transaction of the archive worker: each is a file for every day and type in it.
ARCHIVE_BATCH: Final = 200

#: Mails between two notes of what was sent: as many may be sent twice when the worker is killed.
MAIL_BATCH: Final = 16


class Archive(BaseSettings):
    """Where events are kept, for how long, and what a question to them may take."""

    model_config = SettingsConfigDict(env_prefix="WEFT_", frozen=True, extra="ignore", hide_input_in_errors=True)

    archive: Path
    """Directory of the archive, shared by its workers."""
    archive_days: Annotated[int, Field(ge=1, le=36_500)] = 400
    """Days that events are kept: a year, and the month to compare with."""
    report_memory_mb: Annotated[int, Field(ge=64, le=1_048_576)] = 256
    """Most memory of a question, in MiB; what does not fit is spilled to the disk."""

    @property
    def events(self) -> Path:
        """Where the files of events lie."""
        return self.archive / "events"

    @property
    def work(self) -> Path:
        """Where reports are made."""
        return self.archive / "reports"

    @property
    def keep(self) -> timedelta:
        """How long events are kept."""
        return timedelta(days=self.archive_days)

    @classmethod
    def read(cls) -> Self:
        """Read it from the environment; `ConfigError` says what is wrong."""
        try:
            return cls.model_validate({})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ConfigError(f"WEFT_{str(first['loc'][0]).upper()}: {first['msg']}") from None


class Mail(BaseSettings):
    """Where mail goes."""

    model_config = SettingsConfigDict(env_prefix="WEFT_", frozen=True, extra="ignore", hide_input_in_errors=True)

    smtp: OneAddress
    """The SMTP server."""

    @classmethod
    def read(cls) -> Self:
        """Read it from the environment; `ConfigError` says what is wrong."""
        try:
            return cls.model_validate({})
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
            raise ConfigError(f"WEFT_SMTP: {reason}") from None
