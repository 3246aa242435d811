"""The kinds of reports, and which events each is made from."""

from collections.abc import Mapping
from typing import Final

PLACED: Final = "weft.orders.v1.OrderPlaced"
CANCELLED: Final = "weft.orders.v1.OrderCancelled"

#: By the name that `reports.kind` has for it.
TYPES: Final[Mapping[str, tuple[str, ...]]] = {
    "top_products": (PLACED, CANCELLED),
    "cohorts": (PLACED,),
    "basket_pairs": (PLACED,),
    "revenue_by_country": (PLACED, CANCELLED),
}
