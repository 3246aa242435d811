"""Whether what was seen during a run was right at every moment, and not only at its end: pure functions over a history.

They hold of every beginning of a history as well, so a run can be judged while it goes on. `check` has the rest.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from tests.chaos.history import FAIL, INFO, OK, Books, Event, Operation, operations
from tests.histories import list_append
from tests.histories.list_append import SERIALIZABLE, Append, Read, Status, Transaction

#: How long an entry may be older than a write that was acknowledged. The contract allows a reader 65 s, and an entry
#: lives for 60 s; but it is to be forgotten, and not to expire, so less is allowed: time for a node to be back, and for
#: the relay with its broker, whatever dies at once.
HEALED_S: Final = 45.0


def stock_is_conserved_at_every_look(history: Sequence[Event], books: Books) -> Iterator[str]:
    """In every snapshot, for every product: what moved in is on hand or stands in orders."""
    for each in _looks(history, "balance"):
        for product, off in each.said["off"].items():
            yield f"{product}: {off} pieces too many at {each.began_s:.3f} s"


def what_was_acknowledged_is_there_at_every_look(history: Sequence[Event], books: Books) -> Iterator[str]:
    """A snapshot that began after an order was acknowledged has it, and so has every later one."""
    acknowledged: dict[str, float] = {}
    for each in operations(history, "place"):
        if each.outcome == OK:
            acknowledged[each.said["order"]] = min(each.ended_s, acknowledged.get(each.said["order"], each.ended_s))
    there: set[str] = set()
    missed: set[str] = set()
    for each in _looks(history, "balance"):
        there = (there | set(each.said["new"])) - set(each.said["gone"])
        for order, since_s in acknowledged.items():
            if since_s < each.began_s and order not in there | missed:
                missed.add(order)
                yield f"{order} was acknowledged at {since_s:.3f} s, and not there at {each.began_s:.3f} s"


def order_and_event_are_there_together_at_every_look(history: Sequence[Event], books: Books) -> Iterator[str]:
    """No snapshot has one without the other: they are written in one transaction."""
    for each in _looks(history, "balance"):
        when = f"at {each.began_s:.3f} s"
        yield from (f"{order} has no event {when}" for order in each.said["eventless"])
        yield from (f"an event names {order}, which is not there {when}" for order in each.said["orderless"])


def transactions_are_serializable(history: Sequence[Event], books: Books) -> Iterator[str]:
    """Lists that were appended to and read in transactions show no anomaly that SERIALIZABLE rules out."""
    done = operations(history, "lists")
    final = {key: tuple(values) for key, values in books.lists.items()}
    for anomaly in list_append.check([_transaction(each) for each in done], final=final):
        if anomaly.name in SERIALIZABLE:
            when = ", ".join(f"{done[number].began_s:.3f} s" for number in anomaly.transactions)
            yield f"{anomaly.name} among the transactions that began at {when}"


def the_cache_is_no_older_than_it_may_be(history: Sequence[Event], books: Books) -> Iterator[str]:
    """No entry is older than a write that was acknowledged long enough before somebody looked at it."""
    writes = [each for each in operations(history, "reprice") if each.outcome == OK]
    for look in _looks(history, "cached"):
        for node, key, says in look.said["entries"]:
            if says == "foreign":
                yield f"{node} holds something under {key} that the mesh has not written"
            version = _version(says)
            due = [
                write.said["version"]
                for write in writes
                if write.asked["product"] == key and write.ended_s + HEALED_S < look.began_s
            ]
            if due and version is not None and version < max(due):
                yield f"{node} holds version {version} of {key} at {look.began_s:.3f} s; {max(due)} was acknowledged"


def reads_are_as_new_as_declared(history: Sequence[Event], books: Books) -> Iterator[str]:
    """A read sees every write that was acknowledged its bound before it began; one that shows a token, that write."""
    writes = [each for each in operations(history, "reprice") if each.outcome == OK]
    for read in operations(history, "quote"):
        if read.outcome != OK:
            continue
        product, bound_s, least = (read.asked[name] for name in ("product", "bound_s", "least"))
        due = [
            write.said["version"]
            for write in writes
            if write.asked["product"] == product and write.ended_s + bound_s < read.began_s
        ]
        for what, wanted in (("it was told of", least), (f"{bound_s:g} s before", max(due, default=0))):
            if read.said["version"] < wanted:
                yield f"{product} was read as {read.said['version']} at {read.began_s:.3f} s; {what} {wanted}"


def the_cache_agrees_in_the_end(history: Sequence[Event], books: Books) -> Iterator[str]:
    """When nothing moves any more, no entry differs from its row."""
    for node, key, says in books.cached:
        if key in books.versions and says != f"version {books.versions[key]}":
            yield f"{node} holds {says} of {key}, whose row is version {books.versions[key]}"


def events_of_a_key_leave_in_their_order(history: Sequence[Event], books: Books) -> Iterator[str]:
    """The broker got the events of one key in the order of the outbox; of copies the first counts."""
    last: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for key, sequence in books.left:
        if (key, sequence) in seen:
            continue
        seen.add((key, sequence))
        if sequence < last.get(key, 0):
            yield f"{key}: event {sequence} left after event {last[key]}"
        last[key] = max(sequence, last.get(key, 0))


def unanswered(history: Sequence[Event], *names: str) -> Iterator[str]:
    """Which of these operations was never answered: whoever relies on them has seen nothing."""
    answered = Counter(each.name for each in operations(history, *names) if each.outcome in (OK, FAIL))
    yield from (f"no `{name}` was answered" for name in names if not answered[name])


def _looks(history: Sequence[Event], name: str) -> list[Operation]:
    return [each for each in operations(history, name) if each.outcome == OK]


def _version(says: str) -> int | None:
    word, _, number = says.partition(" ")
    return int(number) if word == "version" else None


def _transaction(done: Operation) -> Transaction:
    """A transaction as its client knows it; of one that was not answered, what it meant to append."""
    status = {OK: Status.COMMITTED, FAIL: Status.ABORTED, INFO: Status.UNKNOWN}[done.outcome]
    steps = done.said["steps"] if done.outcome == OK else [step for step in done.asked["steps"] if step[0] == "append"]
    return Transaction(
        tuple(Append(key, value) if kind == "append" else Read(key, tuple(value)) for kind, key, value in steps), status
    )
