"""What a probe is. `readiness.py` has one for each kind of server.

Apart from its implementations, because everything knows what a probe is and only the daemon should load gRPC for it.
"""

from enum import StrEnum
from typing import Protocol

HOST = "127.0.0.1"
TIMEOUT_S = 0.8
"""Three of them, with what lies between and the start of another process, stay below five seconds."""


class Answer(StrEnum):
    """What a server said."""

    READY = "ready"
    REFUSING = "refusing"


class NoAnswerError(Exception):
    """Nothing, or nothing sensible, came back in time."""


class ClosedError(NoAnswerError):
    """Nobody listens: it leaves, or never came. That is no silence."""


class Probe(Protocol):
    """One question to one server."""

    async def check(self) -> Answer:
        """Ask. Raises NoAnswerError."""
        ...

    async def close(self) -> None:
        """Let go of whatever the probe keeps open."""
        ...
