"""The mail sink: takes mail over SMTP, keeps it in SQLite, answers over HTTP. Nothing leaves the machine.

    GET /messages?to=&limit=   the newest first        GET /messages/<id>    one, with headers and text
    GET /count                 deliveries, different Message-IDs, and those by kind
    GET /, /mail/<id>          the same for people     GET /healthz

Run as `python -m deploy.observability.mail` with WEFT_LISTEN_SMTP, WEFT_LISTEN_HTTP and WEFT_STORE. Mail is committed
before SMTP says 250; a sender that hears nothing sends again, and both deliveries carry one Message-ID. A sender that
does not know whether a mail was taken may ask first: the server announces XSEEN (a private extension as RFC 5321, 2.2.2
allows), and answers `XSEEN <message-id>` with 250 where the mail was kept and 550 where it was not.
"""

import asyncio
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.observability import mail_pages
from deploy.observability.config import Settings
from deploy.observability.mail_store import Delivery, MailReader, MailWriter
from deploy.observability.process import run
from deploy.observability.web import Query, Response, Site, as_html, as_json, not_found

_log: Final = structlog.get_logger(__name__)

_MAIL_BYTES_MAX: Final = 1024 * 1024
_IDLE_S: Final = 60.0
_START_S: Final = 10.0
_MESSAGE_ID_MAX: Final = 400
_LIMIT_DEFAULT: Final = 50
_LIMIT_MAX: Final = 1000


class Mailbox:
    """What aiosmtpd hands mail to. Its loop is the store's one writer."""

    def __init__(self, store: MailWriter) -> None:
        """Deliveries go to `store`."""
        self._store = store

    async def handle_EHLO(  # noqa: N802 - the library's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Announce what this server understands beyond the standard."""
        session.host_name = hostname
        return [*responses[:-1], "250-XSEEN", responses[-1]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - the library's name
        """Keep one mail; the reply of SMTP."""
        raw = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        try:
            number = self._store.add(Delivery(envelope.mail_from or "", envelope.rcpt_tos, raw))
        except sqlite3.Error as error:
            _log.error("mail_not_kept", error=str(error))
            return "451 the store does not take mail now"
        return f"250 kept as {number}"


class AnsweringSMTP(SMTP):
    """SMTP that also answers which mails it has taken."""

    def __init__(self, mailbox: Mailbox, seen: Callable[[str], bool], loop: asyncio.AbstractEventLoop) -> None:
        """`seen` is asked in the server's loop: it has to be short."""
        super().__init__(
            mailbox,
            hostname="weft",
            data_size_limit=_MAIL_BYTES_MAX,
            enable_SMTPUTF8=True,
            timeout=_IDLE_S,
            loop=loop,
        )
        self._seen = seen

    async def smtp_XSEEN(self, argument: str | None) -> None:  # noqa: N802 - the library finds commands by name
        """Say whether a Message-ID is known."""
        if not argument or len(argument) > _MESSAGE_ID_MAX:
            await self.push("501 Syntax: XSEEN <message-id>")
            return
        try:
            seen = self._seen(argument.strip())
        except sqlite3.Error as error:
            _log.error("mail_not_looked_up", error=str(error))
            await self.push("451 the store does not answer now")
            return
        await self.push("250 taken" if seen else "550 not taken")


class MailSink:
    """SMTP server, store and site."""

    def __init__(self, settings: Settings) -> None:
        """Opens the store and nothing else yet."""
        self._intake = settings.intake
        self._store = MailWriter(settings.store)
        self._reader = MailReader(settings.store)
        self.site = Site(
            settings.http,
            [
                (r"/healthz", self._healthz),
                (r"/count", self._count),
                (r"/messages", self._messages),
                (r"/messages/(\d{1,18})", self._message),
                (r"/mail/(\d{1,18})", self._mail),
                (r"/", self._index),
            ],
        )
        self.smtp_port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="smtp", daemon=True)
        self._server: asyncio.Server | None = None

    def start(self) -> None:
        """Listen. Raises OSError where an address is not to be had."""
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_START_S)
        self.smtp_port = int(self._server.sockets[0].getsockname()[1])
        self.site.start()

    async def _listen(self) -> asyncio.Server:
        mailbox = Mailbox(self._store)

        def session() -> SMTP:
            return AnsweringSMTP(mailbox, self._reader.seen, self._loop)

        return await self._loop.create_server(session, self._intake.host, self._intake.port)

    def stop(self) -> None:
        """Stop taking mail, close."""
        if self._server is not None:
            self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()
        self.site.stop()
        self._store.close()

    def _healthz(self, query: Query) -> Response:
        alive = self._thread.is_alive()
        return as_json({"status": "serving" if alive else "not serving"}, status=200 if alive else 503)

    def _count(self, query: Query) -> Response:
        return as_json(self._reader.count())

    def _latest(self, query: Query) -> list[dict[str, Any]]:
        limit = query.number("limit", default=_LIMIT_DEFAULT, most=_LIMIT_MAX)
        return self._reader.latest(to=query.text("to"), limit=limit)

    def _messages(self, query: Query) -> Response:
        return as_json({"messages": self._latest(query)})

    def _message(self, query: Query, number: str) -> Response:
        found = self._reader.message(int(number))
        return not_found("message") if found is None else as_json(found)

    def _mail(self, query: Query, number: str) -> Response:
        found = self._reader.message(int(number))
        return not_found("message") if found is None else as_html(mail_pages.mail(found))

    def _index(self, query: Query) -> Response:
        return as_html(mail_pages.mailbox(self._latest(query), self._reader.count()))


if __name__ == "__main__":
    sys.exit(run("mail", "WEFT_LISTEN_SMTP", MailSink))
