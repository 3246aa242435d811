"""Settings that only workers have, and how much each of them takes at once."""

from __future__ import annotations

from typing import Final, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from svc.chassis.config import ConfigError, OneAddress

#: The databases that have an outbox, one for each service; the relay drains them all.
OUTBOXES: Final = ("identity", "catalog", "orders", "analytics")

#: Events of one transaction of the audit and analytics workers: a commit costs the same for one as for fifty, and more
#: would only lose more work to a conflict.
TRANSACTION_BATCH: Final = 50

#: Mails between two notes of what was sent: as many may be sent twice when the worker is killed.
MAIL_BATCH: Final = 16


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
