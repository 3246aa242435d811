"""The words in which a refusal names its grounds, the same at every hop.

A refusal's `google.rpc.ErrorInfo` has them as metadata: the gateway writes them into its routes, services into their
answers and spans, and `weft explain` reads them. A rule is `<kind>: <what it says>`; where a part of the policy
decided, the kind is what the contract calls it. A line of the contract goes with every rule of a method: that of the
option or field that decided, else that of the method.
"""

from collections.abc import Iterable
from typing import Final

METHOD: Final = "method"
"""`weft.orders.v1.OrderService/PlaceOrder`"""
RULE: Final = "rule"
"""`scopes: orders.write`"""
CONTRACT: Final = "contract"
"""`weft/orders/v1/orders.proto:32`"""
HOP: Final = "hop"
"""Who refused: `gateway`, or the service: `orders`."""
INSTANCE: Final = "instance"
"""Which process of it: `orders-1`."""

#: What spans call the grounds of the refusal they ended in: `weft.refusal.rule`. `reason` is there beside them.
SPAN_PREFIX: Final = "weft.refusal."
REASON: Final = "reason"

OVERLOADED_MARK: Final = "x-weft-overloaded"
"""Trailer of an instance that refuses a call for want of time, so that the gateway need not read the details. Not there
where only the caller's own deadline was too short: others are not to pay for that."""

PUBLIC: Final = "access: public"
TOKEN: Final = "access: token"


def scopes(names: Iterable[str]) -> str:
    """Who has any one of these may call."""
    return f"scopes: {' '.join(names)}"


def rate_limit(requests: int, per_s: float) -> str:
    """How often one caller may call."""
    return f"rate_limit: {requests} per {per_s:g}s"


def address_limit(requests: int, per_s: float) -> str:
    """How often one address may call, whatever it calls."""
    return f"address_limit: {requests} per {per_s:g}s"


def timeout(seconds: float) -> str:
    """How long a call may take."""
    return f"timeout: {seconds:g}s"


def request_bytes(most: int) -> str:
    """How large a request may be."""
    return f"max_request_bytes: {most}"


def request_bytes_limit(most: int) -> str:
    """The same for people."""
    return f"requests of up to {most} bytes"


def criticality(level: str) -> str:
    """Calls that matter no more than this are refused while there is too much to do."""
    return f"criticality: {level}"


def request(message: str) -> str:
    """The request is no message of that type."""
    return f"request: {message}"


def field(path: str) -> str:
    """A field of the request breaks its rules."""
    return f"field: {path}"


def service(reason: str) -> str:
    """The service itself refused, for reasons of its own."""
    return f"service: {reason}"


def gateway(reason: str) -> str:
    """The gateway itself refused, for reasons that no contract states."""
    return f"gateway: {reason}"
