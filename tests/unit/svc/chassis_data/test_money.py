import pytest
from google.type.money_pb2 import Money
from hypothesis import given
from hypothesis import strategies as st

from svc.chassis.errors import InvalidArgument
from svc.chassis.money import MINOR_MAX, from_minor, to_minor


@given(st.integers(-MINOR_MAX, MINOR_MAX))
def test_minor_units_survive_the_wire(minor: int) -> None:
    money = from_minor("GBP", minor)

    assert minor == to_minor(money)
    assert "GBP" == money.currency_code
    assert money.units * money.nanos >= 0


@pytest.mark.parametrize(
    ("minor", "units", "nanos"), [(0, 0, 0), (255, 2, 550_000_000), (-255, -2, -550_000_000), (-5, 0, -50_000_000)]
)
def test_an_amount_is_written_as_units_and_nanos_of_one_sign(minor: int, units: int, nanos: int) -> None:
    assert Money(currency_code="GBP", units=units, nanos=nanos) == from_minor("GBP", minor)


@pytest.mark.parametrize(
    ("units", "nanos", "field"),
    [
        (1, 1, "price.nanos"),
        (1, 9_999_999, "price.nanos"),
        (0, 1_000_000_000, "price.nanos"),
        (0, -1_000_000_000, "price.nanos"),
        (1, -10_000_000, "price.nanos"),
        (-1, 10_000_000, "price.nanos"),
        (2**62, 0, "price.units"),
        (-(2**63), 0, "price.units"),
    ],
)
def test_an_amount_that_is_no_whole_number_of_minor_units_is_refused(units: int, nanos: int, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        to_minor(Money(units=units, nanos=nanos), field="price")

    assert field == refused.value.violations[0][0]
