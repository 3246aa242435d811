"""The trace sink's pages for people: a list, and one trace as a waterfall. Values in, HTML out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from deploy.observability.markup import Markup, element, page, table


def trace_list(
    traces: Sequence[Mapping[str, Any]], services: Sequence[Mapping[str, Any]], *, title: str = "Traces"
) -> str:
    """The newest traces, with links to narrow the list."""
    links = [element("a", "all", href="/"), Markup(" · "), element("a", "errors", href="/?error=true")]
    for service in services:
        links += [
            Markup(" · "),
            element("a", service["service"], href=f"/?service={quote(service['service'], safe='')}"),
        ]
    rows = [
        element(
            "tr",
            element("td", trace["start"]),
            element("td", trace["service"]),
            element("td", element("a", trace["name"] or "(no name)", href=f"/traces/{trace['trace_id']}")),
            element("td", f"{trace['duration_ms']:.1f} ms", class_="number"),
            element("td", str(trace["spans"]), class_="number"),
            element("td", str(trace["errors"]), class_="number"),
            class_="error" if trace["errors"] else "",
        )
        for trace in traces
    ]
    return page(
        title,
        element("p", *links),
        table(("Start", "Service", "Root", "Duration", "Spans", "Errors"), *rows),
        element("p", "No traces." if not traces else ""),
    )


def waterfall(trace: Mapping[str, Any]) -> str:
    """One trace: a row for each span, its bar placed by time."""
    whole = max(trace["duration_ms"], 0.001)
    rows = [_row(span, depth, whole) for span, depth in _walk(trace["spans"])]
    return page(
        f"Trace {trace['trace_id']}",
        element(
            "p",
            f"{trace['start']} · {trace['duration_ms']:.1f} ms · {trace['span_count']} spans · "
            f"{', '.join(trace['services'])} · ",
            element("a", "JSON", href=f"/api/traces/{trace['trace_id']}"),
            Markup(" · "),
            element("a", "all traces", href="/"),
        ),
        table(("Service", "Span", "Duration", "Time", "Attributes"), *rows),
    )


def _walk(spans: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    waiting = [(span, 0) for span in reversed(spans)]
    while waiting:
        span, depth = waiting.pop()
        yield span, depth
        waiting += [(child, depth + 1) for child in reversed(span["children"])]


def _row(span: Mapping[str, Any], depth: int, whole_ms: float) -> Markup:
    left = min(100.0, 100 * span["offset_ms"] / whole_ms)
    width = min(100.0 - left, 100 * span["duration_ms"] / whole_ms)
    failed = span["status"]["code"] == "error"
    attributes = [f"{key} = {value}" for key, value in span["attributes"].items()]
    if failed:
        attributes.insert(0, f"error: {span['status']['message']}")
    bar = element("div", class_="bar", style=f"left:{left:.2f}%;width:{width:.2f}%")
    details = element(
        "details", element("summary", str(len(attributes))), *(element("div", line) for line in attributes)
    )
    return element(
        "tr",
        element("td", span["service"]),
        element("td", span["name"], style=f"padding-left:{0.6 + depth}rem"),
        element("td", f"{span['duration_ms']:.2f} ms", class_="number"),
        element("td", element("div", bar, class_="lane")),
        element("td", details),
        class_="error" if failed else "",
    )
