"""What people ask of the workers' side while it runs or not: dead letters, and whether the audit log is whole.

Called by `worker.__main__`; every answer is an object that becomes one line of JSON.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from svc.chassis.config import Secrets
from svc.chassis.database import Database
from worker import deadletter
from worker.amqp import topology
from worker.amqp.deadletters import DeadLetters
from worker.deadletter import Choice
from worker.handlers.audit import log, verify
from worker.handlers.audit.log import Head

Answer = Mapping[str, object]

#: Kinds of workers that have dead letters.
WORKERS: Final = tuple(queue.name.removeprefix("weft.") for queue in topology.work_queues())

_NOTED: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")


def list_letters(secrets: Secrets, workers: Sequence[str], choice: Choice, *, most: int) -> Answer:
    """The `most` oldest of the chosen letters of each queue, and how many were chosen in all."""
    shown: list[Answer] = []
    chosen = itertools.count()
    for worker in workers:
        with DeadLetters(secrets.amqp_url(), topology.work_queue(worker)) as letters:
            found = (deadletter.summary(letter) for letter in letters.look() if choice.takes(letter))
            # What the broker put there says no time: it comes first.
            counted = (summary for summary, _ in zip(found, chosen, strict=False))
            shown += heapq.nsmallest(most, counted, key=lambda summary: str(summary["parked"]))
    return {"letters": shown, "chosen": next(chosen)}


def show_letter(secrets: Secrets, workers: Sequence[str], letter_id: str, *, body: bool) -> Answer:
    """Everything about one letter, once for each queue that it lies in; with `body`, its bytes as well."""
    choice = Choice(ids=frozenset({letter_id}))
    found: list[Answer] = []
    for worker in workers:
        with DeadLetters(secrets.amqp_url(), topology.work_queue(worker)) as letters:
            copies = [deadletter.whole(letter, body=body) for letter in filter(choice.takes, letters.look())]
        found += [{**copy, "copies": len(copies)} for copy in itertools.islice(copies, 1)]
    return {"letters": found}


def replay_letters(secrets: Secrets, workers: Sequence[str], choice: Choice, *, most: int) -> Answer:
    """Send the chosen letters back to the queues they came from."""
    sent: dict[str, list[str]] = {}
    for worker in workers:
        with DeadLetters(secrets.amqp_url(), topology.work_queue(worker)) as letters:
            sent[f"weft.{worker}"] = letters.replay(choice, most=most - sum(map(len, sent.values())))
    missing = sorted(choice.ids - {letter_id for ids in sent.values() for letter_id in ids})
    return {"replayed": {queue: ids for queue, ids in sent.items() if ids}, "missing": missing}


def verify_audit(secrets: Secrets, noted: Sequence[Head], on_page: Callable[[int, int], None]) -> Answer:
    """Walk the audit log; what is wrong with it, record by record."""
    database = Database(secrets.database_url(log.DATABASE), pool_size=1, name=log.DATABASE)
    try:
        verdict = verify.verify(database, noted=noted, on_page=on_page)
    finally:
        database.close()
    return {
        "whole": not verdict.findings,
        "records": verdict.records,
        "head": f"{verdict.head.sequence}:{verdict.head.hash.hex()}",
        "findings": [
            {"sequence": one.sequence, "event_id": one.event_id, "problem": one.problem} for one in verdict.findings
        ],
    }


def parse_head(text: str) -> Head:
    """Read a head as `verify_audit` names it. Raises ValueError."""
    found = _NOTED.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not SEQUENCE:HASH as an earlier walk has named its head")
    return Head(int(found[1]), bytes.fromhex(found[2]))
