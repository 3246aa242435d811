"""Pure questions about the graph of parts: is it sound, what does a part need, in which order is it stopped."""

from collections.abc import Iterable, Sequence

from deploy.supervisor.errors import ConfigError
from deploy.supervisor.part import STOP_ORDER, Part, Server


def ordered(parts: Iterable[Part]) -> tuple[Part, ...]:
    """`parts` so that each stands behind what it needs. Raises ValueError when that is impossible."""
    waiting = list(parts)
    names = [part.name for part in waiting]
    if len(set(names)) != len(names):
        raise ValueError(f"two parts share a name: {sorted(name for name in set(names) if names.count(name) > 1)}")
    done: dict[str, Part] = {}
    while waiting:
        able = [part for part in waiting if all(need in done for need in part.after)]
        if not able:
            raise ValueError(
                f"parts that need each other or something unknown: {sorted(part.name for part in waiting)}"
            )
        done.update((part.name, part) for part in able)
        waiting = [part for part in waiting if part.name not in done]
    return tuple(done.values())


def closure(parts: Sequence[Part], only: Sequence[str]) -> tuple[Part, ...]:
    """The parts named by `only` and everything they need; all parts when `only` is empty."""
    if not only:
        return tuple(parts)
    by_name = {part.name: part for part in parts}
    unknown = sorted(set(only) - set(by_name))
    if unknown:
        raise ConfigError(f"no part is called {unknown[0]}; known are {', '.join(by_name)}")
    wanted: set[str] = set()
    frontier = list(only)
    while frontier:
        name = frontier.pop()
        if name not in wanted:
            wanted.add(name)
            frontier.extend(by_name[name].after)
    return tuple(part for part in parts if part.name in wanted)


def stop_rank(server: Server) -> int:
    """Position in the stop order: what is in front stops first, what shares a rank stops together."""
    if server.stops_last:
        return len(STOP_ORDER)
    return next(rank for rank, kinds in enumerate(STOP_ORDER) if server.kind in kinds)


def stop_ranks(servers: Iterable[Server]) -> list[list[Server]]:
    """Servers grouped by rank, first rank first."""
    groups: dict[int, list[Server]] = {}
    for server in servers:
        groups.setdefault(stop_rank(server), []).append(server)
    return [groups[rank] for rank in sorted(groups)]
