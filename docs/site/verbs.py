"""The reference of the command line: what `--help` of each verb says, on one page."""

from collections.abc import Iterator
from typing import Any, Final

from deploy.cli.app import Verb, Verbs, app

_WIDTH: Final = 100
_HEAD: Final = """# Commands

Every verb of `weft`, as its own `--help` tells it. Made by `make gen` from the command line itself; a test keeps it so.
`weft` is `.venv/bin/weft` in the clone. Exit codes: 0 it is done, or the answer is yes; 1 it failed, or the answer is
no; 2 a wrong argument or setting; 3 the mesh does not run or does not answer; 130 after Ctrl-C.

| verb | does |
|---|---|
"""


def page() -> str:
    """The page, in Markdown."""
    every = list(_all(app, "weft"))
    rows = "".join(f"| [`{name}`](#{name.replace(' ', '-')}) | {verb.short_help} |\n" for name, verb in every)
    return _HEAD + rows + "".join(f"\n## {name}\n\n```text\n{_help(verb, name)}\n```\n" for name, verb in every)


def _all(group: Verbs, path: str) -> Iterator[tuple[str, Verb]]:
    for name, command in group.commands.items():
        if isinstance(command, Verbs):
            yield from _all(command, f"{path} {name}")
        elif isinstance(command, Verb):
            yield f"{path} {name}", command


def _help(verb: Verb, path: str) -> str:
    """What `--help` prints on a terminal of so many columns."""
    command: Any = verb.load()
    with command.make_context(
        path, [], resilient_parsing=True, max_content_width=_WIDTH, terminal_width=_WIDTH
    ) as said:
        text: str = command.get_help(said)
    return "\n".join(line.rstrip() for line in text.splitlines())
