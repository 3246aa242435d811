"""What the console's page shows, as somebody reads it: tables by the heads of their columns, and what stands above."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from playwright.sync_api import Page

Row = Mapping[str, str]

_READ: Final = """() => {
  const said = (element) => (element?.innerText ?? "").replace(/\\s+/g, " ").trim();
  const tables = {};
  for (const part of document.querySelectorAll("main section.scroll[aria-label]")) {
    const heads = [...part.querySelectorAll("thead th")].map(said);
    const rows = [...part.querySelectorAll("tbody tr")];
    tables[part.getAttribute("aria-label").replace(/, table$/, "")] = rows.map((row) =>
      Object.fromEntries([...row.children].map((cell, at) => [heads[at], said(cell)])),
    );
  }
  return {
    title: said(document.querySelector("main h1")),
    headers: [...document.querySelectorAll("main section > header")].map(said),
    banner: said(document.querySelector(".banner")),
    tables,
  };
}"""


@dataclass(frozen=True, slots=True)
class Seen:
    """The page at one moment."""

    title: str
    headers: Sequence[str]
    """What stands above each panel."""
    banner: str
    """What it warns of; empty: of nothing."""
    tables: Mapping[str, Sequence[Row]]

    @property
    def is_old(self) -> bool:
        """Whether it says that what it shows may not be so any more."""
        return "The mesh does not answer." in self.banner or "What is shown is old." in self.banner

    def says(self, words: str) -> bool:
        """Whether these words stand above a panel."""
        return any(words in header for header in self.headers)

    def row(self, table: str, name: str) -> Row | None:
        """The row whose first word is this name; None where there is none."""
        for row in self.tables.get(table, ()):
            if next(iter(row.values()), "").partition(" ")[0] == name:
                return row
        return None

    def process(self, name: str) -> Row | None:
        """The row of a process, on the page of its service."""
        return self.row("Processes", name)


class Console:
    """A tab with the console in it, somebody signed in."""

    def __init__(self, page: Page) -> None:
        self._page = page

    def open(self, place: str) -> None:
        """Go to a page of it; nothing is loaded anew, and its stream goes on."""
        self._page.evaluate("place => { location.hash = place; }", f"#/{place}")

    def look(self) -> Seen:
        """What it shows now."""
        seen: dict[str, Any] = self._page.evaluate(_READ)
        return Seen(**seen)
