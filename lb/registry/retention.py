"""Which endpoints are announced although their keys have gone. Pure; the clock is handed in.

A lease is a hint: when etcd stalls, loses its data or cannot be reached by the instances, the keys of healthy instances
vanish and come back later, or not for as long as the trouble lasts. So a key that vanishes is believed only where it is
likely that just this instance has ended. The rule, for each service by itself, and each lane of one:

    it said goodbye                                    gone at once, unless it was the last one of no lane
    etcd failed, or lost its history, `hold_s` ago     held
    more than half of the service within `hold_s`      held
    otherwise                                          gone at once

What is held is announced for `hold_s` more, and its clients find out by themselves whether it is there. Meanwhile it is
called at its address: each time somebody answers, `hold_s` begins anew; while nobody can tell, because the network does
not or its turn has not come, as well, but not for longer than `doubt_s`. What refuses the connection goes at the end of
its time, unless nobody else of its service is left and etcd cannot be trusted to say who is: nobody is helped by an
empty set. An address that another instance has registered is not held, whatever happens there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from lb.endpoint import Endpoint

#: Twice the lease: an instance that lives has registered again by then.
HOLD_S: Final = 10.0
#: An outage of the registry that nobody must notice, and a bit.
DOUBT_S: Final = 900.0


@dataclass(frozen=True, slots=True)
class _Held:
    endpoint: Endpoint
    since: float
    until: float
    explained: bool
    """It said goodbye and stays only because it was the last one."""


class Retention:
    """Turns what the registry says into what is announced."""

    def __init__(self, hold_s: float = HOLD_S, doubt_s: float = DOUBT_S) -> None:
        self._hold_s = hold_s
        self._doubt_s = doubt_s
        self._distrusted_until = float("-inf")
        self._announced: dict[bytes, Endpoint] = {}
        self._held: dict[bytes, _Held] = {}
        self._gone: dict[bytes, tuple[str, float]] = {}
        """Service and time of each key that vanished without a word and was believed."""

    def remember(self, announced: Mapping[bytes, Endpoint], now: float) -> None:
        """Begin with what was announced in an earlier life: the registry has to say that it is no longer there."""
        self._announced = dict(announced)
        self.distrust(now)

    def distrust(self, now: float) -> None:
        """Distrust etcd, which failed or lost its history: for a while nothing that vanishes is believed to be gone."""
        self._distrusted_until = now + self._hold_s

    def settle(self, registered: Mapping[bytes, Endpoint], now: float) -> dict[bytes, Endpoint]:
        """What to announce, given what is registered now."""
        fresh = {key: endpoint for key, endpoint in registered.items() if not endpoint.leaving}
        self._gone = {
            key: (service, when)
            for key, (service, when) in self._gone.items()
            if key not in fresh and now - when < self._hold_s
        }
        missing = {key: endpoint for key, endpoint in self._announced.items() if key not in fresh}
        held = self._held
        self._held = {}
        if missing:
            self._held = self._hold(missing, held, fresh, now=now, said_goodbye=registered.keys())
        self._announced = {**{key: each.endpoint for key, each in self._held.items()}, **fresh}
        return dict(self._announced)

    def held(self) -> Mapping[bytes, Endpoint]:
        """What is announced without being registered."""
        return {key: each.endpoint for key, each in self._held.items()}

    def answered(self, key: bytes, now: float) -> None:
        """Somebody takes connections at a held endpoint's address."""
        self._prolong(key, now + self._hold_s)

    def unclear(self, key: bytes, now: float) -> None:
        """Nobody can tell whether somebody is at a held endpoint's address."""
        if key in self._held:
            self._prolong(key, min(now + self._hold_s, self._held[key].since + self._doubt_s))

    def next_deadline(self) -> float | None:
        """When `settle` must be called again though nothing changed; None: not by itself."""
        return min((each.until for each in self._held.values()), default=None)

    def _hold(
        self,
        missing: Mapping[bytes, Endpoint],
        held: Mapping[bytes, _Held],
        fresh: Mapping[bytes, Endpoint],
        *,
        now: float,
        said_goodbye: Iterable[bytes],
    ) -> dict[bytes, _Held]:
        """Those of the missing that stay."""
        taken = {(endpoint.address, endpoint.port) for endpoint in fresh.values()}
        words = frozenset(said_goodbye)
        kept: dict[bytes, _Held] = {}
        lost: dict[str, dict[bytes, Endpoint]] = {}
        last: dict[bytes, _Held] = {}
        spent: dict[bytes, _Held] = {}
        for key, endpoint in missing.items():
            before = held.get(key)
            if (endpoint.address, endpoint.port) in taken:
                continue
            if before is not None and before.until <= now:
                if not (before.explained or endpoint.lane or key in words):
                    spent[key] = before
                continue
            if key in words or (before is not None and before.explained):
                if endpoint.lane:
                    continue  # the stable ones take over from the last one of a lane
                last[key] = before or _Held(endpoint, now, now + self._hold_s, explained=True)
            elif before is not None:
                kept[key] = before
            else:
                lost.setdefault(endpoint.cluster, {})[key] = endpoint
        alive = _counted(endpoint.cluster for endpoint in fresh.values())
        staying = _counted(each.endpoint.cluster for each in kept.values())
        for service, keys in lost.items():
            if self._plausible(service, len(keys), alive.get(service, 0), staying.get(service, 0), now=now):
                self._gone.update((key, (service, now)) for key in keys)
            else:
                kept.update((key, _Held(each, now, now + self._hold_s, explained=False)) for key, each in keys.items())
        served = {each.endpoint.cluster for each in kept.values()} | alive.keys()
        kept.update((key, each) for key, each in last.items() if each.endpoint.cluster not in served)
        if now < self._distrusted_until:  # who might have come instead cannot be seen either
            served |= {each.endpoint.cluster for each in last.values()}
            until = self._distrusted_until
            kept.update(
                (key, replace(each, until=until)) for key, each in spent.items() if each.endpoint.cluster not in served
            )
        return kept

    def _plausible(self, service: str, lost: int, alive: int, staying: int, *, now: float) -> bool:
        """Whether so many of a service may have ended one by one, without a word."""
        if now < self._distrusted_until:
            return False
        earlier = sum(each == service for each, _ in self._gone.values())
        return 2 * (lost + earlier + staying) <= lost + earlier + staying + alive

    def _prolong(self, key: bytes, until: float) -> None:
        each = self._held.get(key)
        if each is not None and not each.explained:
            self._held[key] = _Held(each.endpoint, each.since, max(each.until, until), explained=False)


def _counted(services: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for service in services:
        counts[service] = counts.get(service, 0) + 1
    return counts
