"""What the shop sold, as values. No wire, no SQL, no clock."""

from dataclasses import dataclass
from datetime import date

from svc.chassis.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Period:
    """Some days, both ends included; None leaves an end open."""

    start: date | None
    end: date | None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start > self.end:
            raise InvalidArgument(
                "The period ends before it starts.",
                reason="PERIOD_EMPTY",
                violations=[("end_date", "must not be before start_date")],
            )


@dataclass(frozen=True, slots=True)
class DailySales:
    """Sales of one UTC day in one currency, in minor units; negative where more was taken back than sold."""

    day: date
    currency: str
    orders: int
    cancellations: int
    pieces: int
    revenue_minor: int
