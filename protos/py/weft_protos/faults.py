"""Which ends of a call are faults of the mesh and not of its caller."""

from typing import Final

#: By name, as instances count.
NAMES: Final = frozenset({"DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"})
#: The same by number, as gateways count.
_NUMBERS: Final = ("4", "13", "14", "15")
#: What selects them in the figures of gateways: what JSON got, and what gRPC got behind a 200.
SELECTORS: Final = ('http_status=~"5.."', f'http_status="200",grpc_status=~"{"|".join(_NUMBERS)}"')


def is_fault(http_status: str, grpc_status: str) -> bool:
    """Whether a call that a gateway counts under these is one."""
    return http_status.startswith("5") or (http_status == "200" and grpc_status in _NUMBERS)
