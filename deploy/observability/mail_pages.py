"""The mail sink's pages for people: the mailbox and one mail. Values in, HTML out."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.observability.markup import element, page, table


def mailbox(messages: Sequence[Mapping[str, Any]], count: Mapping[str, Any]) -> str:
    """The newest mail."""
    kinds = ", ".join(f"{kind}: {number}" for kind, number in sorted(count["by_kind"].items()))
    rows = [
        element(
            "tr",
            element("td", message["received"]),
            element("td", ", ".join(message["to"])),
            element("td", element("a", message["subject"] or "(no subject)", href=f"/mail/{message['id']}")),
            element("td", message["kind"]),
        )
        for message in messages
    ]
    said = f"{count['unique']} mails in {count['messages']} deliveries. {kinds}"
    return page("Mail", element("p", said), table(("Received", "To", "Subject", "Kind"), *rows))


def mail(message: Mapping[str, Any]) -> str:
    """One mail: headers and text, nothing of it interpreted."""
    rows = [element("tr", element("th", name), element("td", value)) for name, value in message["headers"]]
    return page(
        message["subject"] or "(no subject)",
        element("p", element("a", "all mail", href="/")),
        table(("Header", "Value"), *rows),
        element("pre", message["text"]),
    )
