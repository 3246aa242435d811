"""The system account that servers run under when the supervisor is root.

PostgreSQL refuses root and RabbitMQ should not have it; so every server that is not ours drops to `weft`.
Without root there is no choice to make: everything runs as the user who asked.
"""

import os
import pwd
from dataclasses import dataclass

from deploy.supervisor.errors import ConfigError

NAME = "weft"


@dataclass(frozen=True, slots=True)
class Account:
    """A system account, resolved once."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The account to drop to; None when the supervisor is not root. Raises ConfigError when it does not exist."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError as error:
        raise ConfigError(f"there is no system user {NAME}; run `make up` or deploy/setup.sh, which adds it") from error
    return Account(name=NAME, uid=entry.pw_uid, gid=entry.pw_gid)
