"""Money between the wire and the inside.

Inside, an amount is an integer of minor units (a hundredth) beside an ISO 4217 code; `google.type.Money` appears only
in `rpc.py` and `events.py`, which convert here. Nothing is rounded: an amount with a fraction of a hundredth is
refused.
"""

from typing import Final

from google.type.money_pb2 import Money

from svc.chassis.errors import InvalidArgument

MINOR_PER_UNIT: Final = 100
_NANOS_PER_UNIT: Final = 1_000_000_000
_NANOS_PER_MINOR: Final = _NANOS_PER_UNIT // MINOR_PER_UNIT
# What a bigint column and an int64 field hold.
MINOR_MAX: Final = 2**63 - 1


def to_minor(money: Money, *, field: str = "money") -> int:
    """Minor units of an amount. Raises InvalidArgument for `field` where it is not a whole number of them."""
    if abs(money.nanos) >= _NANOS_PER_UNIT:
        raise _refused(f"{field}.nanos", "must be between -999,999,999 and 999,999,999")
    if (money.units > 0 > money.nanos) or (money.units < 0 < money.nanos):
        raise _refused(f"{field}.nanos", "must have the sign of units")
    if money.nanos % _NANOS_PER_MINOR:
        raise _refused(f"{field}.nanos", "must be whole hundredths: a multiple of 10,000,000")
    minor = money.units * MINOR_PER_UNIT + money.nanos // _NANOS_PER_MINOR
    if abs(minor) > MINOR_MAX:
        raise _refused(f"{field}.units", "is too large")
    return int(minor)


def from_minor(code: str, minor: int) -> Money:
    """The amount as the wire has it."""
    units, rest = divmod(abs(minor), MINOR_PER_UNIT)
    sign = -1 if minor < 0 else 1
    return Money(currency_code=code, units=sign * units, nanos=sign * rest * _NANOS_PER_MINOR)


def _refused(field: str, description: str) -> InvalidArgument:
    return InvalidArgument(violations=[(field, description)])
