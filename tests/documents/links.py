"""Links of a document: where they lead within the clone. Addresses elsewhere are left alone: no test asks them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

_LINK: Final = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?: \"[^\"]*\")?\)")
_HEADING: Final = re.compile(r"^#{1,6} (.+?)(?: #+)?$", re.MULTILINE)
_FENCED: Final = re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE: Final = re.compile(r"`[^`\n]*`")


def broken(path: Path, root: Path) -> Iterator[str]:
    """Links of a Markdown file that lead nowhere, or out of the clone."""
    text = _CODE.sub("", _FENCED.sub("", path.read_text()))
    for found in _LINK.finditer(text):
        target, _, anchor = found["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        there = (path.parent / target).resolve() if target else path
        if not there.exists() or not there.is_relative_to(root):
            yield f"{path.relative_to(root)}: {found['target']}: there is no such file"
        elif anchor and there.suffix == ".md" and anchor not in anchors(there):
            yield f"{path.relative_to(root)}: {found['target']}: there is no such heading"


@cache
def anchors(path: Path) -> frozenset[str]:
    """The anchors of a file's headings, as GitHub and the site make them."""
    taken: dict[str, int] = {}
    found = set()
    for title in _HEADING.findall(_FENCED.sub("", path.read_text())):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        number = taken.get(slug, 0)
        taken[slug] = number + 1
        found.add(f"{slug}-{number}" if number else slug)
    return frozenset(found)
