"""Where docs/troubleshooting.md explains an error: the page of the clone, since that is there before any site is built.

A heading of the second level is a code, one of the third a reason. Anchors are those that GitHub makes of headings; the
site has the same.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from deploy.supervisor.config import PROJECT

PAGE: Final = "docs/troubleshooting.md"
_HEADING: Final = re.compile(r"^(#{1,6}) (.+?)\s*$", re.MULTILINE)


def anchors(text: str) -> Mapping[tuple[str, str], str]:
    """The anchor of every code and reason of the page; that of a code alone under an empty reason."""
    found: dict[tuple[str, str], str] = {}
    seen: Counter[str] = Counter()
    code = ""
    for level, title in _HEADING.findall(text):
        slug = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        anchor = f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1
        name = title.split()[0]
        if level == "##":
            code = name
            found[code, ""] = anchor
        elif level == "###":
            found[code, name] = anchor
    return found


def place(code: str, reason: str) -> str:
    """Path and anchor, such as docs/troubleshooting.md#token_expired: of the reason, or else of its code.

    Empty where the page has neither, or is not there, as in an image.
    """
    try:
        known = anchors((PROJECT / PAGE).read_text(encoding="utf-8"))
    except OSError:
        return ""
    anchor = known.get((code, reason)) or known.get((code, ""))
    return f"{PAGE}#{anchor}" if anchor else ""
