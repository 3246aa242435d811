"""Builds the site: documents gathered below build/, Sphinx over them, the contracts' reference beside them.

ARCHITECTURE.md, which lies elsewhere in the clone, is a page, too. A link to a file that is no page becomes its name,
since a site has no sources beside it.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Final

from docs.site import links, stamp

HERE: Final = Path(__file__).resolve().parent
#: Generous: a machine that is busy builds slowly.
TOOL_S: Final = 600.0
#: Below the reference of contracts: the files whose lines it names.
SOURCES: Final = "source"
#: Places of the clone that have another place, or a page, in the site.
_MOVED: Final[Mapping[str, str]] = {
    "ARCHITECTURE.md": "architecture.md",
    "docs/decisions": "decisions/index.md",
    "docs/runbooks": "runbooks/index.md",
}
_LINK: Final = re.compile(r"(?<!!)\[(?P<text>[^\]\n]+)\]\((?P<target>[^)\s]+)\)")
_COMMENT: Final = re.compile(r"^[ \t]*<!-- (?:run|read): .*? -->\n\n?", re.MULTILINE)
_TITLE: Final = re.compile(r"^# (.+)$", re.MULTILINE)
_FENCED: Final = re.compile(r"(^[ \t]*```.*?^[ \t]*```[ \t]*$)", re.MULTILINE | re.DOTALL)


class BuildFailedError(Exception):
    """The site could not be built; the message says why."""


def build(root: Path, out: Path, *, unless_fresh: bool = False) -> None:
    """Build the site of the clone `root` into `out`, replacing what was there. Raises BuildFailedError.

    `unless_fresh`: leave one alone that is of the same sources.
    """
    out = out.resolve()
    with stamp.alone(out):
        if not (unless_fresh and stamp.fresh(root, out)):
            _build(root, out)


def _build(root: Path, out: Path) -> None:
    of = stamp.digest(root)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".docs.") as folder:
        staged, made = Path(folder) / "source", Path(folder) / "site"
        for name, text in gathered(root).items():
            path = staged / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sphinx = ("sphinx", "-q", "-W", "--keep-going", "-E", "-b", "html", "-c", str(HERE), "-d", f"{folder}/trees")
        _run(root, *sphinx, str(staged), str(made))
        (made / ".buildinfo").unlink(missing_ok=True)
        contracts = made / "contracts"
        _run(root, "deploy.cli", "contracts", "docs", "--out", str(contracts), "--sources", f"{SOURCES}/")
        shutil.copytree(root / "protos" / "weft", contracts / SOURCES / "protos" / "weft")
        (made / links.NAME).write_text(links.text(root), encoding="utf-8")
        stamp.put(made, of)
        if out.exists():
            shutil.rmtree(out)
        made.rename(out)


def gathered(root: Path) -> Mapping[str, str]:
    """The pages as Sphinx takes them, by their path in the site."""
    texts = {path.relative_to(root / "docs").as_posix(): path.read_text() for path in (root / "docs").rglob("*.md")}
    pages = {name: _linked(text, f"docs/{name}", root) for name, text in texts.items()}
    pages["architecture.md"] = _linked((root / "ARCHITECTURE.md").read_text(), "ARCHITECTURE.md", root)
    for name, says in (("decisions", "Decisions"), ("runbooks", "Runbooks")):
        pages[f"{name}/index.md"] = _index(says, {path: text for path, text in pages.items() if path.startswith(name)})
    pages["index.md"] += _CONTENTS
    pages["reference/contracts.md"] += _REFERENCE
    return pages


#: What the menu shows, in its order.
_CONTENTS: Final = """
```{toctree}
:hidden:
:caption: Begin

quickstart
new-service
second-example
```

```{toctree}
:hidden:
:caption: How to

how-to/break-a-contract
how-to/why-refused
how-to/dead-letters
how-to/roll-a-version
how-to/canary-lane
how-to/backup-and-restore
how-to/rotate-keys
how-to/test-your-client
how-to/replay-and-report
clients
other-languages
ship
```

```{toctree}
:hidden:
:caption: Look up

reference/verbs
reference/settings
Contracts <reference/contracts>
troubleshooting
reference/watching
reference/recovery
reference/faults
reference/benchmarks
runbooks/index
known-limits
```

```{toctree}
:hidden:
:caption: Understand

architecture
decisions/index
```
"""


#: The contracts' own compiler makes these pages, so Sphinx knows none of them.
_REFERENCE: Final = """
<ul>
<li><a href="../contracts/index.html">All contracts</a></li>
<li><a href="../contracts/promises.html">What each method promises, in each failure</a></li>
<li><a href="../contracts/events.html">Events</a></li>
</ul>
"""


def _index(says: str, pages: Mapping[str, str]) -> str:
    """A page that lists those of a folder."""
    names = sorted(PurePosixPath(path).stem for path in pages)
    titles = {PurePosixPath(path).stem: _title(text) for path, text in pages.items()}
    rows = "".join(f"- [{titles[name]}]({name}.md)\n" for name in names)
    return f"# {says}\n\n{rows}\n```{{toctree}}\n:hidden:\n\n" + "\n".join(names) + "\n```\n"


def _title(text: str) -> str:
    found = _TITLE.search(text)
    if found is None:
        raise BuildFailedError(f"a page has no title: {text[:60]!r}")
    return found[1]


def _linked(text: str, place: str, root: Path) -> str:
    """A document with the links of the site; `place`: where it lies in the clone."""
    pieces = _FENCED.split(_COMMENT.sub("", text))
    return "".join(piece if number % 2 else _relinked(piece, place, root) for number, piece in enumerate(pieces))


def _relinked(text: str, place: str, root: Path) -> str:
    here = PurePosixPath(_page(place) or place)

    def replaced(link: re.Match[str]) -> str:
        target = link["target"]
        if target.startswith("#") or "://" in target:
            return link[0]
        path, _, anchor = target.partition("#")
        full = normpath((PurePosixPath(place).parent / path).as_posix())
        page = _page(full)
        if page is None or not (root / full).exists():
            return link["text"]
        kept = f"#{anchor}" if anchor else ""
        return f"[{link['text']}]({relpath(page, here.parent.as_posix())}{kept})"

    return _LINK.sub(replaced, text)


def _page(place: str) -> str | None:
    """Where a file of the clone is in the site; None where it is not."""
    if place in _MOVED:
        return _MOVED[place]
    return place.removeprefix("docs/") if place.startswith("docs/") and place.endswith(".md") else None


def _run(root: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=root, capture_output=True, text=True, timeout=TOOL_S, check=False
    )
    if done.returncode != 0:
        raise BuildFailedError("\n".join(_said(done)))


def _said(done: "subprocess.CompletedProcess[str]") -> Iterator[str]:
    yield f"{' '.join(done.args[2:4])} ended with {done.returncode}"
    yield from done.stderr.strip().splitlines()[-20:]
