"""One real Envoy with the compiled contracts, without a control plane, in front of one real instance in this process.

`door` is the fixture: import it into a test module. What passes the gateway reaches the handler of `door.instance`, so
that a test can tell whether a refused request did anything.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from svc.chassis.clock import SystemClock
from tests.integration.edge_calls import Answer, Json, Native, Target, Web, Wire
from tests.unit.svc.chassis.instance import NOW, Instance
from weft_protos import policy

from .conftest import settings_in
from .fronted import LOG, running, whole_lines

SCOPES: Final = " ".join(sorted(policy.scopes()))


@dataclass
class Door:
    """The gateway, called over all wires, and the instance behind it."""

    address: str
    instance: Instance
    log: Path
    wires: Sequence[Wire] = field(default_factory=tuple)

    def token(self, **claims: object) -> str:
        """A good token, but for the claims given; the instance's clock stands where it was when the gateway started."""
        now = int(self.instance.clock.now().timestamp())
        return self.instance.issuer.token(**{"iat": now, "exp": now + 300, "scope": SCOPES} | claims)

    @property
    def handled(self) -> int:
        """How many requests have reached a handler."""
        # A call that is kept keeps its stream, and an instance takes no more than a hundred of them.
        del self.instance.behaviour.calls[:-1]
        return len(self.instance.behaviour.requests)

    def everywhere(self, target: Target, token: str | None = None) -> dict[str, Answer]:
        """The answers of all wires to one request."""
        return {wire.name: wire.call(target, token) for wire in self.wires}

    def logged(self, trace_id: str) -> list[dict[str, Any]]:
        """The lines of the gateway's log about a trace."""
        found = [json.loads(line) for line in whole_lines(self.log) if trace_id in line]
        return [line for line in found if line["trace_id"] == trace_id]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, descriptors: bytes) -> Iterator[Door]:
    """A gateway and an instance of its own for each module."""
    folder, instance = tmp_path_factory.mktemp("door"), Instance()
    instance.clock.move((SystemClock().now() - NOW).total_seconds())
    jwks, port = instance.issuer.jwks(), instance.port
    try:
        with running(descriptors, settings_in(folder), jwks=jwks, backend=port) as address:
            wires = (Native(address), Web(address), Web(address, text=True), Json(address))
            yield Door(address, instance, folder / LOG, wires)
            for wire in wires:
                wire.close()
    finally:
        instance.close()
