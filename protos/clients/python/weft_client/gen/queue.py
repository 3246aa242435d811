"""QueueService. Generated from the contracts by `make gen`; never edited."""

from collections.abc import Sequence
from weft.operations.v1 import queues_pb2
from weft_client.calls import AsyncCalls, Calls, bound


class Queue:
    """Queues of the workers, and the events that they have put aside."""

    def __init__(self, calls: Calls) -> None:
        self._calls = bound(calls, queues_pb2.DESCRIPTOR.services_by_name["QueueService"])

    def list_queues(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ListQueuesResponse:
        """Lists the queues of the workers, by name.

        page_size: The most queues in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: queues_pb2.ListQueuesResponse = self._calls.call("ListQueues", fields, timeout=timeout)
        return answer

    def list_dead_letters(
        self,
        parent: str,
        *,
        page_size: int | None = None,
        reason: str | None = None,
        type: str | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ListDeadLettersResponse:
        """Lists the events that workers have put aside, the oldest first. They lie there until they are replayed.

        parent: The queue, `queues/{queue}`, or `queues/-` for all of them.
        page_size: The most letters of one queue; 0: 50. More than 1000 counts as 1000. What is more is only
            counted: there are no further pages, because looking may change the letters' order.
        reason: Only those whose reason has this in it, in upper or lower case; empty: any.
        type: Only those of this type, whole or its last part: `OrderPlaced`; empty: any.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
        """
        fields = {"parent": parent, "page_size": page_size, "reason": reason, "type": type}
        answer: queues_pb2.ListDeadLettersResponse = self._calls.call("ListDeadLetters", fields, timeout=timeout)
        return answer

    def get_dead_letter(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> queues_pb2.DeadLetter:
        """Reads one of them: the event without what its contract marks sensitive, the reason and the trace.

        name: The letter to read, `queues/{queue}/deadLetters/{letter}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
            DeadLetterNotFound: it does not lie there, or no longer
        """
        fields = {"name": name}
        answer: queues_pb2.DeadLetter = self._calls.call("GetDeadLetter", fields, timeout=timeout)
        return answer

    def replay_dead_letters(
        self,
        parent: str,
        *,
        letter_ids: Sequence[str] | None = None,
        reason: str | None = None,
        type: str | None = None,
        all: bool | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ReplayDeadLettersResponse:
        """Has workers try them again, from their first attempt. Safe to repeat: an event that has taken effect by
        now takes none again, and one that fails again comes back.

        parent: The queue, `queues/{queue}`, or `queues/-` for all of them.
        letter_ids: Only these: the last part of their resource names.
        reason: Only those whose reason has this in it, in upper or lower case; empty: any.
        type: Only those of this type, whole or its last part: `OrderPlaced`; empty: any.
        all: Every one that the other fields do not leave out: without them, every one there is.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
        """
        fields = {"parent": parent, "letter_ids": letter_ids, "reason": reason, "type": type, "all": all}
        answer: queues_pb2.ReplayDeadLettersResponse = self._calls.call("ReplayDeadLetters", fields, timeout=timeout)
        return answer


class AsyncQueue:
    """Queues of the workers, and the events that they have put aside."""

    def __init__(self, calls: AsyncCalls) -> None:
        self._calls = bound(calls, queues_pb2.DESCRIPTOR.services_by_name["QueueService"])

    async def list_queues(
        self,
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ListQueuesResponse:
        """Lists the queues of the workers, by name.

        page_size: The most queues in one page; 0: 100. More than 1000 counts as 1000.
        page_token: `next_page_token` of the page before; empty: the first page.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
        """
        fields = {"page_size": page_size, "page_token": page_token}
        answer: queues_pb2.ListQueuesResponse = await self._calls.call("ListQueues", fields, timeout=timeout)
        return answer

    async def list_dead_letters(
        self,
        parent: str,
        *,
        page_size: int | None = None,
        reason: str | None = None,
        type: str | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ListDeadLettersResponse:
        """Lists the events that workers have put aside, the oldest first. They lie there until they are replayed.

        parent: The queue, `queues/{queue}`, or `queues/-` for all of them.
        page_size: The most letters of one queue; 0: 50. More than 1000 counts as 1000. What is more is only
            counted: there are no further pages, because looking may change the letters' order.
        reason: Only those whose reason has this in it, in upper or lower case; empty: any.
        type: Only those of this type, whole or its last part: `OrderPlaced`; empty: any.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
        """
        fields = {"parent": parent, "page_size": page_size, "reason": reason, "type": type}
        answer: queues_pb2.ListDeadLettersResponse = await self._calls.call("ListDeadLetters", fields, timeout=timeout)
        return answer

    async def get_dead_letter(
        self,
        name: str,
        *,
        timeout: float | None = None,
    ) -> queues_pb2.DeadLetter:
        """Reads one of them: the event without what its contract marks sensitive, the reason and the trace.

        name: The letter to read, `queues/{queue}/deadLetters/{letter}`.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
            DeadLetterNotFound: it does not lie there, or no longer
        """
        fields = {"name": name}
        answer: queues_pb2.DeadLetter = await self._calls.call("GetDeadLetter", fields, timeout=timeout)
        return answer

    async def replay_dead_letters(
        self,
        parent: str,
        *,
        letter_ids: Sequence[str] | None = None,
        reason: str | None = None,
        type: str | None = None,
        all: bool | None = None,
        timeout: float | None = None,
    ) -> queues_pb2.ReplayDeadLettersResponse:
        """Has workers try them again, from their first attempt. Safe to repeat: an event that has taken effect by
        now takes none again, and one that fails again comes back.

        parent: The queue, `queues/{queue}`, or `queues/-` for all of them.
        letter_ids: Only these: the last part of their resource names.
        reason: Only those whose reason has this in it, in upper or lower case; empty: any.
        type: Only those of this type, whole or its last part: `OrderPlaced`; empty: any.
        all: Every one that the other fields do not leave out: without them, every one there is.
        timeout: seconds for the whole call, repetitions included; the contract's where it is not said

        Raises:
            SourceUnavailable: whoever tells of queues does not answer
            QueueNotFound: there is no such queue
        """
        fields = {"parent": parent, "letter_ids": letter_ids, "reason": reason, "type": type, "all": all}
        answer: queues_pb2.ReplayDeadLettersResponse = await self._calls.call("ReplayDeadLetters", fields, timeout=timeout)
        return answer
