"""Mail in SQLite: every delivery is counted, the newest bodies are kept.

Counting is by Message-ID and never forgets; bodies are pruned beyond a number. So `/count` stays right however long
the sink runs, and a delivery that came twice is seen to be the same mail.
"""

import email
import email.policy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from deploy.observability.sqlite import open_writer, reader, transaction

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS message (
  id INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT NOT NULL, kind TEXT NOT NULL, sender TEXT NOT NULL,
  recipients TEXT NOT NULL, subject TEXT NOT NULL, received REAL NOT NULL, raw BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS recipient (
  address TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (address, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS recipient_message ON recipient (id);
CREATE TABLE IF NOT EXISTS mail (
  message_id TEXT PRIMARY KEY, kind TEXT NOT NULL, deliveries INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS mail_kind ON mail (kind, deliveries);
"""
_DELIVER: Final = (
    "INSERT INTO message (message_id, kind, sender, recipients, subject, received, raw) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_COUNT: Final = "INSERT INTO mail VALUES (?, ?, 1) ON CONFLICT (message_id) DO UPDATE SET deliveries = deliveries + 1"
# The header in which the sender says what a mail is about; mail without it is counted under no kind.
KIND_HEADER: Final = "X-Weft-Kind"
BODIES_MAX: Final = 50_000
# Pruning costs a transaction: it waits until this many are too many.
_PRUNE_SLACK: Final = 1000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One mail as SMTP brought it."""

    sender: str
    recipients: Sequence[str]
    raw: bytes


class MailWriter:
    """The side that writes; one thread uses it."""

    def __init__(self, path: Path, *, bodies_max: int = BODIES_MAX) -> None:
        """Creates the file where it is not there."""
        self._db = open_writer(path, _SCHEMA)
        self._bodies_max = bodies_max

    def add(self, delivery: Delivery) -> int:
        """Keep a delivery; its number. Committed when this returns: the sender is told only then."""
        parsed = _parse(delivery.raw)
        kind = _header(parsed, KIND_HEADER)
        recipients = sorted({address.lower() for address in delivery.recipients})
        with transaction(self._db):
            cursor = self._db.execute(
                _DELIVER,
                (
                    _header(parsed, "Message-ID"),
                    kind,
                    delivery.sender,
                    json.dumps(recipients),
                    _header(parsed, "Subject"),
                    datetime.now(UTC).timestamp(),
                    delivery.raw,
                ),
            )
            number = int(cursor.lastrowid or 0)
            # Mail without a Message-ID is like no other.
            self._db.execute(_COUNT, (_header(parsed, "Message-ID") or f"delivery {number}", kind))
            self._db.executemany("INSERT INTO recipient VALUES (?, ?)", [(address, number) for address in recipients])
            if number % _PRUNE_SLACK == 0:
                self._prune(number - self._bodies_max)
        return number

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _prune(self, last: int) -> None:
        self._db.execute("DELETE FROM recipient WHERE id <= ?", (last,))
        self._db.execute("DELETE FROM message WHERE id <= ?", (last,))


class MailReader:
    """The side that is asked; any thread."""

    def __init__(self, path: Path) -> None:
        """The file must have been created by a MailWriter."""
        self._path = path

    def count(self) -> dict[str, Any]:
        """`messages`: deliveries; `unique`: different Message-IDs; `by_kind`: different Message-IDs of each kind."""
        with reader(self._path) as db:
            rows = db.execute("SELECT kind, count(*) AS mails, sum(deliveries) AS n FROM mail GROUP BY kind").fetchall()
        return {
            "messages": sum(row["n"] for row in rows),
            "unique": sum(row["mails"] for row in rows),
            "by_kind": {row["kind"]: row["mails"] for row in rows if row["kind"]},
        }

    def seen(self, message_id: str) -> bool:
        """Whether a mail with this Message-ID was ever kept; also of one whose body was pruned."""
        with reader(self._path) as db:
            return db.execute("SELECT 1 FROM mail WHERE message_id = ?", (message_id,)).fetchone() is not None

    def latest(self, *, to: str, limit: int) -> list[dict[str, Any]]:
        """Mail without bodies, the newest first. `to`: a recipient; empty: any."""
        statement = "SELECT * FROM message ORDER BY id DESC LIMIT ?"
        values: tuple[str | int, ...] = (limit,)
        if to:
            statement = (
                "SELECT message.* FROM recipient JOIN message USING (id) WHERE address = ? "
                "ORDER BY recipient.id DESC LIMIT ?"
            )
            values = (to.lower(), limit)
        with reader(self._path) as db:
            return [_summary(row) for row in db.execute(statement, values)]

    def message(self, number: int) -> dict[str, Any] | None:
        """One mail with headers and text."""
        with reader(self._path) as db:
            row = db.execute("SELECT * FROM message WHERE id = ?", (number,)).fetchone()
        if row is None:
            return None
        parsed = _parse(row["raw"])
        return {
            **_summary(row),
            "headers": [[name, _clean(str(value))] for name, value in parsed.items()],
            "text": _text(parsed),
        }


def _summary(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "message_id": row["message_id"],
        "kind": row["kind"],
        "from": row["sender"],
        "to": json.loads(row["recipients"]),
        "subject": row["subject"],
        "received": datetime.fromtimestamp(row["received"], UTC).isoformat(timespec="milliseconds"),
    }


def _parse(raw: bytes) -> EmailMessage:
    return email.message_from_bytes(raw, policy=email.policy.default)


def _clean(text: str) -> str:
    # What is not UTF-8 comes as lone surrogates, which neither SQLite nor JSON takes.
    return text.encode("utf-8", "replace").decode("utf-8")


def _header(parsed: EmailMessage, name: str) -> str:
    return _clean(str(parsed.get(name, ""))).strip()


def _text(parsed: EmailMessage) -> str:
    body = parsed.get_body(preferencelist=("plain", "html"))
    if body is None:
        return ""
    try:
        return _clean(str(body.get_content()))
    except (LookupError, KeyError, UnicodeError):
        # An unknown character set or content type: shown as it came.
        payload = body.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
