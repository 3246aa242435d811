"""What surrounds every call, outermost first. Interceptors observe, translate or refuse; they never act.

Each is built once per method, with the method's policy in hand. None knows another: they meet in `call.Call`.
"""

from typing import Final

from svc.chassis.call import Builder
from svc.chassis.interceptors import deadline, overload, peer, principal, status, telemetry, validation

ORDER: Final[tuple[tuple[Builder, str], ...]] = (
    (telemetry.build, "outermost: sees every call and its final code, refusals included; all below is in its span"),
    (status.build, "turns whatever is raised below into one status, so that nothing below speaks gRPC"),
    (overload.build, "before everything that costs: a call that will not be served is not worth a look"),
    (deadline.build, "costs nothing, and a call nobody waits for is not worth a signature check"),
    (peer.build, "costs next to nothing, and who may not call at all is not worth a signature check either"),
    (principal.build, "before the body is parsed: a stranger's bytes are not worth the work"),
    (validation.build, "last: from here on the request is a message that obeys the contract"),
)
