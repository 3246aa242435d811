"""Products as values, and the rules that hold for them.

Everybody in this service speaks in these values. Money is an integer of minor units with an ISO 4217 code.
"""

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

PRODUCTS_PREFIX: Final = "products/"

#: Fields of a product that UpdateProduct changes.
MUTABLE_FIELDS: Final = ("display_name", "price")


@dataclass(frozen=True, slots=True)
class Price:
    """An amount of money: whole minor units, never negative."""

    currency: str
    minor: int


@dataclass(frozen=True, slots=True)
class Product:
    """Something that can be ordered."""

    id: str
    display_name: str
    price: Price
    etag: str
    """Another one after every change."""
    create_time: datetime
    update_time: datetime

    @property
    def name(self) -> str:
        """Resource name."""
        return PRODUCTS_PREFIX + self.id


class Change(Enum):
    """What happened to a product."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


class Order(Enum):
    """The orders in which products can be listed, by the words of `order_by`."""

    NAME = "name"
    NAME_DESC = "name desc"
    PRICE = "price"
    PRICE_DESC = "price desc"

    @property
    def by_price(self) -> bool:
        """Whether the price decides: currency first, since amounts of two currencies do not compare; then the id."""
        return self in (Order.PRICE, Order.PRICE_DESC)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a list, right behind one product."""

    id: str
    price: Price


def search_text(text: str) -> str:
    """The form in which words are looked for in names: compatibility-composed and case-folded.

    Folded here and not by the database, whose idea of case depends on how its server was initialised.
    """
    return unicodedata.normalize("NFKC", text).casefold()


def like_patterns(words: str) -> tuple[str, ...]:
    """One LIKE pattern for each word, in which nothing but the ends is a wildcard."""
    return tuple(f"%{_literal(word)}%" for word in search_text(words).split())


def _literal(word: str) -> str:
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
