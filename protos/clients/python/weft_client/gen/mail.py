"""MailService. Generated from the contracts by `make gen`; never edited."""

from weft.operations.v1 import mails_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Mail:
    """Mail that the mesh has sent, where it goes to the mesh's own mailbox. It tells who somebody is: for
    operators alone.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, mails_pb2.DESCRIPTOR.services_by_name["MailService"])

    def list_mails(
        self,
        *,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> mails_pb2.ListMailsResponse:
        """Lists mail without its text, the newest first.

        page_size: The most mails; 0: 50. More than 500 counts as 500. There are no further pages.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the mailbox does not answer
        """
        fields = {"page_size": page_size}
        answer: mails_pb2.ListMailsResponse = self._calls.call("ListMails", fields, timeout=timeout)
        return answer

    def get_mail(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mails_pb2.Mail:
        """Reads one mail.

        name: The mail to read, `mails/{number}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the mailbox does not answer
            MailNotFound: there is no such mail, or its text is kept no longer
        """
        fields = {"name": name}
        answer: mails_pb2.Mail = self._calls.call("GetMail", fields, timeout=timeout)
        return answer


class AsyncMail:
    """Mail that the mesh has sent, where it goes to the mesh's own mailbox. It tells who somebody is: for
    operators alone.
    """

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, mails_pb2.DESCRIPTOR.services_by_name["MailService"])

    async def list_mails(
        self,
        *,
        page_size: int | None = None,
        timeout: float | None = None,
    ) -> mails_pb2.ListMailsResponse:
        """Lists mail without its text, the newest first.

        page_size: The most mails; 0: 50. More than 500 counts as 500. There are no further pages.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the mailbox does not answer
        """
        fields = {"page_size": page_size}
        answer: mails_pb2.ListMailsResponse = await self._calls.call("ListMails", fields, timeout=timeout)
        return answer

    async def get_mail(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> mails_pb2.Mail:
        """Reads one mail.

        name: The mail to read, `mails/{number}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: the mailbox does not answer
            MailNotFound: there is no such mail, or its text is kept no longer
        """
        fields = {"name": name}
        answer: mails_pb2.Mail = await self._calls.call("GetMail", fields, timeout=timeout)
        return answer
