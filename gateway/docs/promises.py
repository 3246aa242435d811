"""What every method promises of its answers and effects, and what becomes of a call in each failure. Pure.

All of it follows from the contract: what a method says of effects, repetition, cache and consistency. Who keeps it:
svc/chassis/replicas.py, svc/chassis/cached_reads.py, svc/chassis/database.py, svc/chassis/idempotency.py.
"""

from dataclasses import dataclass
from typing import Final

from gateway.policy import Rpc

#: The failures, in the order of a row's cells.
FAILURES: Final = (
    "The database's leader is away",
    "Its replicas are away or behind",
    "The cache is away or cold",
    "The instance dies in the call",
    "The answer to COMMIT is lost",
    "The broker is away",
)
_SAME: Final = "nothing changes"


@dataclass(frozen=True, slots=True)
class Promise:
    """One row of the table."""

    rpc: Rpc
    says: str
    fails: tuple[str, ...]
    """What happens in each of FAILURES."""


def of(rpc: Rpc) -> Promise:
    """The row of a method."""
    return (
        Promise(rpc, _read(rpc), _failed_read(rpc))
        if rpc.method.safe
        else Promise(rpc, _write(rpc), _failed_write(rpc))
    )


def _read(rpc: Rpc) -> str:
    consistency = rpc.policy.consistency
    if consistency.level == "strong":
        return "Strong: everything that was acknowledged before the call is in the answer."
    own = "With a read token, one's own writes are in it."
    if consistency.level == "bounded":
        return f"Bounded: the answer was true no more than {consistency.max_s:g} s ago. {own}"
    return f"Eventual: the answer was true at some time. {own}"


def _failed_read(rpc: Rpc) -> tuple[str, ...]:
    consistency, cached = rpc.policy.consistency, rpc.policy.cache_ttl is not None
    somebody = "the cache or a replica" if cached else "a replica"
    leader = {
        "strong": "`UNAVAILABLE` at once",
        "bounded": f"answered by {somebody} until {consistency.max_s:g} s have passed, then `UNAVAILABLE`",
        "eventual": f"answered by {somebody}",
    }[consistency.level]
    replicas = _SAME if consistency.level == "strong" else "the leader answers"
    cache = "slower, never wrong" if cached else _SAME
    return leader, replicas, cache, _dead(rpc, "`UNAVAILABLE`: call again"), "`UNAVAILABLE`: call again", _SAME


def _write(rpc: Rpc) -> str:
    if "request_id" in rpc.method.request_fields:
        return "Takes effect once for each `request_id`; every repeat within a day gets the first answer."
    if rpc.method.idempotent:
        return "Takes effect all or not at all; a repeat changes nothing more."
    return "Takes effect all or not at all; a repeat is another call."


def _failed_write(rpc: Rpc) -> tuple[str, ...]:
    keyed = "request_id" in rpc.method.request_fields
    unknown = "`UNAVAILABLE`, `COMMIT_UNKNOWN`"
    if keyed:
        lost = f"looked up under the `request_id`: the answer, or {unknown} where time runs out; repeat it"
        alone = "`UNAVAILABLE`: repeat it with the same `request_id`"
    elif rpc.method.idempotent:
        lost, alone = f"{unknown}: repeat it", "`UNAVAILABLE`: repeat it"
    else:
        lost, alone = f"{unknown}: read before you call again", "`UNAVAILABLE`: read before you call again"
    outbox = "nothing changes; its events wait in the outbox"
    return "`UNAVAILABLE`, nothing is done", _SAME, _SAME, _dead(rpc, alone), lost, outbox


def _dead(rpc: Rpc, alone: str) -> str:
    attempts = rpc.policy.max_attempts or 1
    return alone if attempts == 1 else f"tried at another instance, up to {attempts} times in all"
