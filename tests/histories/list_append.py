"""Which isolation a database has kept, told from what transactions saw: lists that are only appended to.

After Adya (1999) for what the anomalies are, and Elle (Kingsbury, Alvaro, 2020) for how lists give them away: every
value is appended once, so a list that was read tells in which order its transactions wrote. From that follow the edges
of the graph of dependencies, and each cycle in it is an anomaly:

    ww   wrote the element before         G0         a cycle of ww
    wr   wrote the last element read      G1c        of ww and wr
    rw   read, and did not see it yet     G-single   with exactly one rw: read skew, a lost update
                                          G2         with more: write skew

Beside the cycles: G1a (read what was rolled back), G1b (read what its transaction went on to change), a read that
disagrees with the transaction's own appends, two reads that no one order explains, and an acknowledged append that is
gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final, NamedTuple


class Status(Enum):
    """How a transaction ended, as its client knows."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class Append(NamedTuple):
    """Put a value at the end of a list."""

    key: str
    value: int


class Read(NamedTuple):
    """What a list was."""

    key: str
    values: tuple[int, ...]


@dataclass(frozen=True)
class Transaction:
    """Operations in the order in which one transaction did them."""

    operations: tuple[Append | Read, ...]
    status: Status = Status.COMMITTED


@dataclass(frozen=True, order=True)
class Anomaly:
    """Something that a level of isolation rules out."""

    name: str
    transactions: tuple[int, ...]
    """By their numbers in the history; of a cycle, in its order."""


#: What must not happen at each level that somebody claims.
READ_COMMITTED: Final = frozenset({"G0", "G1a", "G1b", "G1c", "order", "lost"})
SNAPSHOT: Final = READ_COMMITTED | {"G-single", "internal"}
SERIALIZABLE: Final = SNAPSHOT | {"G2"}

_Edges = Mapping[int, set[int]]


def check(history: Sequence[Transaction], *, final: Mapping[str, tuple[int, ...]] | None = None) -> list[Anomaly]:
    """Every anomaly. `final`: the lists as they were when everything had ended."""
    return sorted(set(_Analysis(history, final or {}).anomalies()))


class _Analysis:
    def __init__(self, history: Sequence[Transaction], final: Mapping[str, tuple[int, ...]]) -> None:
        self._history = history
        self._final = final
        self._writer: dict[tuple[str, int], int] = {}
        self._last: dict[tuple[int, str], int] = {}
        for number, transaction in enumerate(history):
            for operation in transaction.operations:
                if isinstance(operation, Append):
                    assert (operation.key, operation.value) not in self._writer, "a value is appended once"
                    self._writer[operation.key, operation.value] = number
                    self._last[number, operation.key] = operation.value

    def anomalies(self) -> Iterator[Anomaly]:
        yield from self._wrong_reads()
        yield from self._lost()
        orders, disagreeing = self._orders()
        yield from disagreeing
        ww, wr, rw = self._edges(orders)
        yield from (Anomaly("G0", cycle) for cycle in _cycles(ww))
        yield from (Anomaly("G1c", cycle) for cycle in _cycles(_union(ww, wr)) if not _within(cycle, ww))
        yield from self._anti_dependencies(_union(ww, wr), rw)

    def _reads(self) -> Iterator[tuple[int, Read, tuple[int, ...]]]:
        """Each read of a committed transaction, with what it says of what others did: without the own appends."""
        for number, transaction in enumerate(self._history):
            if transaction.status is not Status.COMMITTED:
                continue
            own: defaultdict[str, list[int]] = defaultdict(list)
            for operation in transaction.operations:
                if isinstance(operation, Append):
                    own[operation.key].append(operation.value)
                    continue
                mine = len(own[operation.key])
                yield number, operation, operation.values[: len(operation.values) - mine]

    def _wrong_reads(self) -> Iterator[Anomaly]:
        for number, transaction in enumerate(self._history):
            if transaction.status is not Status.COMMITTED:
                continue
            own: defaultdict[str, list[int]] = defaultdict(list)
            seen: dict[str, tuple[int, ...]] = {}
            for operation in transaction.operations:
                if isinstance(operation, Append):
                    own[operation.key].append(operation.value)
                    continue
                mine = tuple(own[operation.key])
                others = operation.values[: len(operation.values) - len(mine)]
                if operation.values[len(others) :] != mine or seen.setdefault(operation.key, others) != others:
                    yield Anomaly("internal", (number,))
        for number, read, others in self._reads():
            writers = [self._writer.get((read.key, value)) for value in others]
            for writer in writers:
                if writer is None or self._history[writer].status is Status.ABORTED:
                    yield Anomaly("G1a", (number,) if writer is None else (writer, number))
            if writers and writers[-1] not in (None, number) and self._last[writers[-1], read.key] != others[-1]:
                yield Anomaly("G1b", (writers[-1], number))

    def _lost(self) -> Iterator[Anomaly]:
        if not self._final:
            return
        for (key, value), writer in self._writer.items():
            if self._history[writer].status is Status.COMMITTED and value not in self._final.get(key, ()):
                yield Anomaly("lost", (writer,))

    def _orders(self) -> tuple[dict[str, tuple[int, ...]], list[Anomaly]]:
        """Each list at its longest, and the reads that are no beginning of it."""
        orders = dict(self._final)
        for _, read, _ in self._reads():
            if len(read.values) > len(orders.get(read.key, ())):
                orders[read.key] = read.values
        wrong = [
            Anomaly("order", (number,))
            for number, read, _ in self._reads()
            if orders.get(read.key, ())[: len(read.values)] != read.values
        ]
        return orders, wrong

    def _edges(self, orders: Mapping[str, tuple[int, ...]]) -> tuple[_Edges, _Edges, _Edges]:
        ww: defaultdict[int, set[int]] = defaultdict(set)
        wr: defaultdict[int, set[int]] = defaultdict(set)
        rw: defaultdict[int, set[int]] = defaultdict(set)
        for key, order in orders.items():
            writers = [self._writer.get((key, value)) for value in order]
            for before, after in pairwise(writers):
                _add(ww, before, after)
        for number, read, others in self._reads():
            order = orders.get(read.key, ())
            if order[: len(others)] != others:
                continue  # said already
            if others:
                _add(wr, self._writer.get((read.key, others[-1])), number)
            following = (self._writer.get((read.key, value)) for value in order[len(others) :])
            _add(rw, number, next((writer for writer in following if writer != number), None))
        return ww, wr, rw

    def _anti_dependencies(self, depends: _Edges, rw: _Edges) -> Iterator[Anomaly]:
        single = set()
        for reader, writers in rw.items():
            for writer in writers:
                path = _path(depends, writer, reader)
                if path:
                    single.add((reader, writer))
                    yield Anomaly("G-single", (reader, *path[:-1]))
        rest = {number: {each for each in after if (number, each) not in single} for number, after in rw.items()}
        yield from (Anomaly("G2", cycle) for cycle in _cycles(_union(depends, rest)) if not _within(cycle, depends))


def _add(edges: defaultdict[int, set[int]], before: int | None, after: int | None) -> None:
    if before is not None and after is not None and before != after:
        edges[before].add(after)


def _union(*graphs: _Edges) -> _Edges:
    joined: defaultdict[int, set[int]] = defaultdict(set)
    for graph in graphs:
        for node, after in graph.items():
            joined[node] |= after
    return joined


def _within(cycle: Sequence[int], edges: _Edges) -> bool:
    return all(after in edges.get(before, ()) for before, after in zip(cycle, (*cycle[1:], cycle[0]), strict=True))


def _path(edges: _Edges, start: int, end: int) -> tuple[int, ...]:
    """The shortest way, both ends included; empty where there is none."""
    came: dict[int, int] = {start: start}
    pending = [start]
    while pending:
        layer, pending = pending, []
        for node in layer:
            if node == end:
                way = [end]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return tuple(reversed(way))
            for after in edges.get(node, ()):
                if after not in came:
                    came[after] = node
                    pending.append(after)
    return ()


def _cycles(edges: _Edges) -> Iterator[tuple[int, ...]]:
    """A shortest cycle of each knot of the graph."""
    for knot in _knots(edges):
        inside = {node: edges.get(node, set()) & knot for node in knot}
        ways = (_path(inside, after, node) for node in knot for after in inside[node])
        shortest = min(ways, key=len)
        least = shortest.index(min(shortest))
        yield shortest[least:] + shortest[:least]


def _knots(edges: _Edges) -> Iterable[set[int]]:
    """Strongly connected components of more than one node (Tarjan, without recursion)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    for root in list(edges):
        if root in index:
            continue
        work = [(root, iter(edges.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        while work:
            node, following = work[-1]
            after = next(following, None)
            if after is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    at = stack.index(node)
                    knot = set(stack[at:])
                    del stack[at:]
                    if len(knot) > 1:
                        yield knot
            elif after not in index:
                index[after] = low[after] = len(index)
                stack.append(after)
                work.append((after, iter(edges.get(after, ()))))
            elif after in stack:
                low[node] = min(low[node], index[after])
