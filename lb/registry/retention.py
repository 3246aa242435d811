"""How long an endpoint is still announced after its key has gone. Pure; the clock is handed in.

A lease is a hint: when etcd stalls or loses its data, the keys of healthy instances vanish and come back seconds
later. Two rules keep traffic flowing meanwhile. The last endpoints of a service stay for `hold_s` (a dead address and
no address fail alike, so nothing is lost by it), and while etcd cannot be trusted every endpoint does.
"""

from collections.abc import Mapping
from typing import Final

from lb.endpoint import Endpoint

#: Twice the lease: an instance that lives has registered again by then.
HOLD_S: Final = 10.0


class Retention:
    """Turns what the registry says into what is announced."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self._hold_s = hold_s
        self._distrusted_until = float("-inf")
        self._announced: dict[bytes, Endpoint] = {}
        self._held: dict[bytes, float] = {}

    def distrust(self, now: float) -> None:
        """Distrust etcd, which failed or lost its history: for a while nothing that vanishes is believed to be gone."""
        self._distrusted_until = now + self._hold_s

    def settle(self, registered: Mapping[bytes, Endpoint], now: float) -> dict[bytes, Endpoint]:
        """What to announce, given what is registered now."""
        alive = {endpoint.service for endpoint in registered.values()}
        kept: dict[bytes, Endpoint] = {}
        held: dict[bytes, float] = {}
        for key, endpoint in self._announced.items():
            if key in registered:
                continue
            until = self._held.get(key)
            if until is None and (now < self._distrusted_until or endpoint.service not in alive):
                until = now + self._hold_s
            if until is not None and now < until:
                kept[key], held[key] = endpoint, until
        self._held = held
        self._announced = {**kept, **registered}
        return dict(self._announced)

    def next_deadline(self) -> float | None:
        """When `settle` must be called again though nothing changed; None: not by itself."""
        return min(self._held.values(), default=None)
