"""The file of order lines: CSV, plain or gzip-compressed, one line for each product of an invoice.

Reading never drops a line: what cannot be understood becomes a line with the reason why, so that every line of the file
is accounted for in the end.
"""

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

COLUMNS: Final = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)

_DATE_FORMAT: Final = "%m/%d/%Y %H:%M"


class FileRefusedError(ValueError):
    """The file as a whole cannot be read; the message says what is wrong and what would be right."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file. `quantity` is negative on the lines of a cancellation; `price_minor` is in pence."""

    number: int
    invoice: str
    product: str
    description: str
    quantity: int
    date: datetime
    price_minor: int
    customer: str
    country: str = ""
    flaw: str | None = None

    @property
    def is_cancellation(self) -> bool:
        """True where the invoice takes back, which its number says by a leading `C`."""
        return self.invoice.startswith("C")


@dataclass(frozen=True, slots=True)
class OrderFile:
    """All lines of a file, and the digest that tells two files apart."""

    lines: tuple[Line, ...]
    digest: str


def read(path: Path) -> OrderFile:
    """Read a file by its name. Raises FileRefusedError."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise FileRefusedError(f"{path}: cannot be read: {_cause(error)}") from error
    return parse(content, name=str(path))


def _cause(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def parse(content: bytes, *, name: str) -> OrderFile:
    """Read a file's bytes. Raises FileRefusedError where they are not UTF-8, not CSV, or lack a column."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileRefusedError(f"{name}: not UTF-8 at byte {error.start}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise FileRefusedError(f"{name}: the header lacks {', '.join(missing)}; it must name {', '.join(COLUMNS)}")
    try:
        lines = tuple(_lines(reader))
    except csv.Error as error:
        raise FileRefusedError(f"{name}:{reader.line_num}: not CSV: {error}") from error
    if not lines:
        raise FileRefusedError(f"{name}: holds no line below its header")
    return OrderFile(lines=lines, digest=hashlib.sha256(content).hexdigest())


def _lines(reader: "csv.DictReader[str]") -> Iterator[Line]:
    for number, row in enumerate(reader, start=2):
        flaw: str | None = None
        if any(row[column] is None for column in COLUMNS) or None in row:
            flaw = "wrong_number_of_columns"
        fields = {column: (row[column] or "").strip() for column in COLUMNS}
        try:
            quantity = int(fields["Quantity"])
        except ValueError:
            quantity, flaw = 0, flaw or "bad_quantity"
        try:
            price = Decimal(fields["UnitPrice"]) * 100
            price_minor = int(price.to_integral_value())
        except (InvalidOperation, ValueError, OverflowError):
            price_minor, flaw = 0, flaw or "bad_price"
        try:
            date = datetime.strptime(fields["InvoiceDate"], _DATE_FORMAT)  # noqa: DTZ007 - the file names no zone
        except ValueError:
            date, flaw = datetime.min, flaw or "bad_date"  # noqa: DTZ901
        yield Line(
            number=number,
            invoice=fields["InvoiceNo"],
            product=fields["StockCode"],
            description=fields["Description"],
            quantity=quantity,
            date=date,
            price_minor=price_minor,
            customer=fields["CustomerID"],
            country=fields["Country"],
            flaw=flaw,
        )
