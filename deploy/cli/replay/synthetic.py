"""A synthetic day of orders in the shape of the real file, for the demo and for tests.

Demand is uneven, invoices vary in length, and what makes real files hard is there too: the same product twice in an
invoice, returns with and without a purchase, postage, a price of zero. The same seed gives the same day; two seeds
share products and customers, as two days do, and never an invoice.
"""

import csv
import io
import random
from datetime import datetime, timedelta
from typing import Final

from deploy.cli.replay.lines import COLUMNS

_ADJECTIVES: Final = ("RED", "BLUE", "VINTAGE", "WOODEN", "CERAMIC", "FOLDING", "GLASS", "KNITTED")
_NOUNS: Final = ("LANTERN", "TEAPOT", "CLOCK", "NOTEBOOK", "CUSHION", "LUNCH BOX", "CANDLE", "BUNTING", "TRAY")
_OPENING: Final = datetime(2011, 12, 5, 8, 0)  # noqa: DTZ001 - the file names no zone
#: Where customers are, each in one of them.
_COUNTRIES: Final = ("Germany", "France", "EIRE", "Spain", "Netherlands", "Unspecified")
#: One invoice in so many takes something back.
_RETURN_EVERY: Final = 6
#: Numbers between the first invoices of two seeds: request ids are made from invoice numbers, and one that means
#: something else on another day would be refused.
_INVOICES_MAX: Final = 1_000_000


def day(*, invoices: int = 120, products: int = 60, customers: int = 24, seed: int = 1) -> bytes:
    """CSV of one day. Bounded by its arguments; about seven lines for each invoice."""
    chance = random.Random(seed)
    catalogue = [
        (f"9{number:04d}", f"{chance.choice(_ADJECTIVES)} {chance.choice(_NOUNS)}", chance.randrange(29, 1995))
        for number in range(products)
    ]
    weights = [1 / (rank + 1) for rank in range(products)]
    bought: list[tuple[str, tuple[str, str, int], int]] = []
    out = io.StringIO()
    write = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
    write.writerow(COLUMNS)
    for number in range(invoices):
        invoice = str(seed * _INVOICES_MAX + number)
        at = _OPENING + timedelta(minutes=number * 540 // invoices)
        date = f"{at.month}/{at.day}/{at.year} {at.hour}:{at.minute:02d}"
        customer = f"9{chance.randrange(customers):04d}"
        if bought and number % _RETURN_EVERY == _RETURN_EVERY - 1:
            customer, product, quantity = bought.pop(chance.randrange(len(bought)))
            back = quantity if chance.random() < 0.5 else chance.randint(1, quantity)
            row = _row(f"C{invoice}", product, -back, date)
            write.writerow([*row, customer, _country(customer)])
            if chance.random() < 0.25:
                write.writerow([f"C{invoice}", "99999", "NEVER BOUGHT", -1, date, "1.00", customer, _country(customer)])
            continue
        for product in chance.choices(catalogue, weights=weights, k=chance.randint(1, 12)):
            quantity = chance.choice((1, 2, 4, 6, 12, 24))
            bought.append((customer, product, quantity))
            write.writerow([*_row(invoice, product, quantity, date), customer, _country(customer)])
        if chance.random() < 0.3:
            write.writerow([invoice, "POST", "POSTAGE", 1, date, "18.00", customer, _country(customer)])
        if chance.random() < 0.05:
            write.writerow([invoice, catalogue[0][0], catalogue[0][1], 1, date, "0", customer, _country(customer)])
    return out.getvalue().encode()


def _country(customer: str) -> str:
    return _COUNTRIES[int(customer) % len(_COUNTRIES)]


def _row(invoice: str, product: tuple[str, str, int], quantity: int, date: str) -> list[str | int]:
    code, name, price = product
    return [invoice, code, name, quantity, date, f"{price / 100:.2f}"]
