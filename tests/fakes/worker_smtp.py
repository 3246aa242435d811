"""A real SMTP server in this process, on a port of the system's choice, whose answers the test chooses."""

import asyncio
import email
import email.policy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

from svc.chassis.config import Address


class Inbox:
    """The server's side: what it took, and what it answers instead of taking."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.sessions = 0
        self.on_sender = ""
        self.on_recipient = ""
        self.on_data = ""
        self.hangs_up_after_data = False
        #: Whether it says which mails it has taken, and what it says instead.
        self.tells = False
        self.on_seen = ""
        self.address = Address("127.0.0.1", 0)

    async def handle_EHLO(  # noqa: N802 - the hook
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.sessions += 1
        session.host_name = hostname
        return [*responses[:-1], "250-XSEEN", responses[-1]] if self.tells else responses

    def seen(self, message_id: str) -> str:
        if self.on_seen:
            return self.on_seen
        return "250 taken" if any(mail["Message-ID"] == message_id for mail in self.mails) else "550 not taken"

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - the hook
        if self.on_sender:
            return self.on_sender
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802 - the hook
        if self.on_recipient:
            return self.on_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - the hook
        if self.on_data:
            return self.on_data
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        if self.hangs_up_after_data:
            server.transport.abort()
        return "250 OK"


class _Server(SMTP):
    async def smtp_XSEEN(self, argument: str) -> None:  # noqa: N802 - the library finds commands by name
        await self.push(self.event_handler.seen(argument))


@contextmanager
def smtp_server() -> Iterator[Inbox]:
    """Serve until the end of the block."""
    inbox = Inbox()
    loop = asyncio.new_event_loop()
    protocols: list[SMTP] = []

    def protocol() -> SMTP:
        protocols.append(_Server(inbox, loop=loop, hostname="mail.test", ident="test"))
        return protocols[-1]

    server = loop.run_until_complete(loop.create_server(protocol, "127.0.0.1", 0))
    inbox.address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
    thread = threading.Thread(target=loop.run_forever, name="smtp")
    thread.start()

    async def close() -> None:
        server.close()
        for one in protocols:
            if one.transport is not None:
                one.transport.abort()
        await asyncio.sleep(0)
        handlers = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)

    try:
        yield inbox
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
