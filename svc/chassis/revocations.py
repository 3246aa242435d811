"""Which access tokens are refused although they have not expired: the document `revocations` of the registry.

identity publishes it, always, be it empty; `tokens.TokenVerifier` of every instance obeys it. Both sides of its form
are here. It is bounded: an entry is dropped when no token that it refuses can live any more, and there is a limit to
how many there are. What does not fit is refused by its time, with others of that time: never let in.

    {"sessions": {"<sid>": <second after which none of its tokens lives>},
     "subjects": {"<sub>": {"before": <second>, "suspended": <bool>}},
     "before": <second; not there: 0>}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from svc.chassis.context import Principal
from svc.chassis.errors import Unauthenticated
from weft_protos import access_token

DOCUMENT: Final = "revocations"
#: Entries of each kind. With ids of 64 characters both kinds at their limit stay below `BYTES_MAX`, which is well below
#: the 1.5 MB that etcd takes.
SESSIONS_MAX: Final = 4096
SUBJECTS_MAX: Final = 4096
BYTES_MAX: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SubjectRevocation:
    """What is refused of one subject."""

    before: int
    """Tokens issued before this second of the Unix time are refused."""
    suspended: bool = False
    """Every token is refused, whenever it was issued."""


@dataclass(frozen=True, slots=True)
class Revocations:
    """One state of the document."""

    sessions: Mapping[str, int] = field(default_factory=dict)
    """Ended sessions, and the second of the Unix time after which none of their tokens lives."""
    subjects: Mapping[str, SubjectRevocation] = field(default_factory=dict)
    before: int = 0
    """Tokens issued before this second are refused, whosever they are: those that may be revoked and are not listed."""

    def refuse(self, principal: Principal) -> None:
        """Raise Unauthenticated where the principal's token was revoked: the subject's, or that of who acts for it."""
        for subject in (principal.subject, principal.actor):
            entry = self.subjects.get(subject) if subject is not None else None
            if entry is not None and entry.suspended:
                raise Unauthenticated(
                    "The user is suspended.", reason="USER_SUSPENDED", metadata={"subject": subject or ""}
                )
            if entry is not None and principal.issued < entry.before:
                raise _revoked({"subject": subject or ""})
        if principal.session in self.sessions:
            raise _revoked({"session": principal.session})
        if principal.issued < self.before:
            raise _revoked({"subject": principal.subject})


def _revoked(metadata: Mapping[str, str]) -> Unauthenticated:
    return Unauthenticated("The token was revoked; sign in again.", reason="TOKEN_REVOKED", metadata=metadata)


def encode(revocations: Revocations) -> bytes:
    """The document. The same entries give the same bytes."""
    document: dict[str, object] = {
        "sessions": dict(revocations.sessions),
        "subjects": {
            subject: {"before": entry.before, "suspended": entry.suspended}
            for subject, entry in revocations.subjects.items()
        },
    }
    if revocations.before:
        document["before"] = revocations.before
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse(document: bytes) -> Revocations:
    """Read the document. Raises ValueError; fields of a later version are ignored."""
    if len(document) > BYTES_MAX:
        raise ValueError("the list of revocations is too large")
    try:
        fields = json.loads(document.decode())
    except RecursionError:
        raise ValueError("the list of revocations is nested") from None
    if not isinstance(fields, dict):
        raise ValueError("the list of revocations is no object")
    sessions, subjects = (_entries(fields.get(name), name) for name in ("sessions", "subjects"))
    return Revocations(
        sessions={session: _second(until) for session, until in sessions.items()},
        subjects={subject: _subject(entry) for subject, entry in subjects.items()},
        before=_second(fields.get("before", 0)),
    )


def _entries(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(access_token.ID.fullmatch(key) for key in value):
        raise ValueError(f"{name} is no map of ids")
    return value


def _second(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**53:
        raise ValueError("a time is no second of the Unix time")
    return value


def _subject(value: object) -> SubjectRevocation:
    if not isinstance(value, dict) or not isinstance(value.get("suspended"), bool):
        raise ValueError("a subject's entry is not {before, suspended}")
    return SubjectRevocation(_second(value.get("before")), value["suspended"])
