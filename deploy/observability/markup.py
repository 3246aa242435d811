"""HTML that cannot be broken by what it shows: text becomes markup only through `element`, which escapes it."""

import html
from typing import Final


class Markup(str):
    """Finished HTML."""

    __slots__ = ()


_STYLE: Final = """
body{font:14px/1.4 system-ui,sans-serif;margin:2rem;color:#1c2733}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #dde3e9;vertical-align:top}
td.number{text-align:right;font-variant-numeric:tabular-nums}
tr.error td{background:#fdecea}
a{color:#0b5cad;text-decoration:none}
pre{white-space:pre-wrap;background:#f4f6f8;padding:1rem}
.lane{position:relative;height:1.1rem;min-width:20rem}
.bar{position:absolute;height:100%;min-width:2px;background:#4a8fd4;border-radius:2px}
tr.error .bar{background:#c8463a}
details{color:#51606f;font-size:12px}
"""


def element(name: str, *children: str, **attributes: str) -> Markup:
    """An element. Children and attribute values are text unless they are Markup; `class_` is `class`."""
    said = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    inside = "".join(child if isinstance(child, Markup) else html.escape(child) for child in children)
    return Markup(f"<{name}{said}>{inside}</{name}>")


def table(head: tuple[str, ...], *rows: Markup) -> Markup:
    """A table of finished rows."""
    titles = (element("th", title) for title in head)
    return element("table", element("thead", element("tr", *titles)), element("tbody", *rows))


def page(title: str, *content: str) -> str:
    """A whole document."""
    head = element("head", Markup('<meta charset="utf-8">'), element("title", title), element("style", Markup(_STYLE)))
    body = element("body", element("h1", title), *content)
    return f'<!doctype html><html lang="en">{head}{body}</html>'
