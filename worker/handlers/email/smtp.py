"""The door to the SMTP server: one connection, kept open from mail to mail.

Its answers become what the runner understands: a mail that the server will never take is Permanent, one that it may
take later Transient. A server that cannot be talked to, or that takes no mail from us at all, is an Outage: what it
says before it has heard of a recipient is not about any one mail. Used from one thread.

Some servers can say whether they have taken a mail: those that announce XSEEN, as the mail sink does.
"""

from __future__ import annotations

import smtplib
import time
from email.message import EmailMessage
from typing import Final

import structlog

from svc.chassis import purity
from svc.chassis.config import Address
from worker.errors import Outage, Permanent, Transient

TIMEOUT_S: Final = 4.0

#: Servers drop silent connections after some minutes; one that idled longer than this is replaced before use, since a
#: connection that breaks in the middle of a mail leaves open whether the mail is out.
IDLE_MAX_S: Final = 30.0

_SERVICE_CLOSING: Final = 421
_SEEN: Final = "XSEEN"
_TAKEN, _NOT_TAKEN = 250, 550
# The size of the mail travels with its sender (RFC 1870), so the sender is where a mail that is too large is refused.
_TOO_LARGE: Final = 552

log = structlog.get_logger(__name__)


class Smtp:
    """Hands mails to an SMTP server."""

    def __init__(self, server: Address, *, timeout_s: float = TIMEOUT_S) -> None:
        self._server = server
        self._timeout_s = timeout_s
        self._connection: smtplib.SMTP | None = None
        self._used = 0.0

    def send(self, mail: EmailMessage) -> None:
        """Return when the server has taken responsibility for the mail."""
        purity.refuse("a mail")
        # Not send_message(): it copies and reads the whole mail again to learn what is known here.
        [sender], [recipient] = mail["From"].addresses, mail["To"].addresses
        if not recipient.addr_spec.isascii():
            raise Permanent("the recipient's address is not ASCII")
        try:
            self._open().sendmail(sender.addr_spec, [recipient.addr_spec], mail.as_bytes())
        except smtplib.SMTPRecipientsRefused as error:
            self.close()
            raise _refusal(min(code for code, _ in error.recipients.values())) from error
        except (smtplib.SMTPConnectError, smtplib.SMTPHeloError, smtplib.SMTPSenderRefused) as error:
            self.close()
            if error.smtp_code == _TOO_LARGE:
                raise _refusal(error.smtp_code) from error
            raise Outage(f"mail server: {type(error).__name__} with {error.smtp_code}") from error
        except smtplib.SMTPResponseException as error:
            self.close()
            raise _refusal(error.smtp_code) from error
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Outage(f"mail server: {type(error).__name__}") from error
        self._used = time.monotonic()

    def seen(self, message_id: str) -> bool | None:
        """Whether the server has taken a mail with this Message-ID; None where it is none that can tell."""
        try:
            connection = self._open()
            connection.ehlo_or_helo_if_needed()
            if not connection.has_extn(_SEEN):
                return None
            code, _ = connection.docmd(_SEEN, message_id)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Outage(f"mail server: {type(error).__name__}") from error
        self._used = time.monotonic()
        if code not in (_TAKEN, _NOT_TAKEN):
            raise Outage(f"mail server: {code} to {_SEEN}")
        return code == _TAKEN

    def close(self) -> None:
        """Close the connection; the next mail opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not quit(): it would wait for an answer of a server that may be gone.
            connection.close()

    def _open(self) -> smtplib.SMTP:
        if self._connection is not None and time.monotonic() - self._used > IDLE_MAX_S:
            self.close()
        if self._connection is None:
            self._connection = smtplib.SMTP(self._server.host, self._server.port, timeout=self._timeout_s)
            self._used = time.monotonic()
            log.info("smtp_connected", server=str(self._server))
        return self._connection


def _refusal(code: int) -> Exception:
    if code == _SERVICE_CLOSING:
        return Outage(f"mail server: {code}")
    if code >= 500:
        return Permanent(f"the mail server refused the mail with {code}")
    return Transient(f"the mail server refused the mail for now with {code}")
