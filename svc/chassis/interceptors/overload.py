"""Refuses calls that the instance has no time for, as `admission` decided when they came in."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from svc.chassis import metrics
from svc.chassis.call import Call, Interceptor, Method, Verifier
from svc.chassis.criticality import Criticality
from svc.chassis.errors import ResourceExhausted

REASON: Final = "OVERLOADED"
#: What refused callers are told to wait, twice that at most: together they must not come back.
RETRY_S: Final = {Criticality.SHEDDABLE: 2.0, Criticality.DEFAULT: 1.0, Criticality.CRITICAL: 0.5}


def build(method: Method, _verifier: Verifier) -> Interceptor:
    """Count refusals by service and criticality."""
    counters = {level: metrics.RPC_SHED.labels(service=method.owner, criticality=level.word) for level in Criticality}

    @contextmanager
    def refuse_shed(call: Call) -> Iterator[None]:
        if call.time_left_s is not None and call.time_left_s <= 0:
            # Whatever it was turned away for, nobody waits for it any more; `deadline` says so.
            call.shed = False
        if call.shed:
            if not call.hurried:
                counters[call.criticality].inc()
            # Not UNAVAILABLE: gateway and peers would repeat that at once, and take the instance for broken.
            raise ResourceExhausted(
                "There is too much to do just now; try again later.",
                reason=REASON,
                metadata={"criticality": call.criticality.word},
                retry_after=RETRY_S[call.criticality] * random.uniform(1.0, 2.0),
            )
        yield

    return refuse_shed
