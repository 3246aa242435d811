"""What the commands of a document name: verbs and flags of `weft`, targets of make, modules, paths of the API.

All of it is looked up where it is defined, without running anything: the command line's own parser, the Makefile, the
contracts, the tree.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

from google.api import annotations_pb2

from deploy.cli.app import Verb, Verbs, app
from tests.documents.blocks import ROOT
from weft_protos import policy

#: Programs that are nobody's to check here.
OTHERS: Final = frozenset(
    [
        "cat",
        "curl",
        "npm",
        "go",
        "git",
        "sed",
        "export",
        "cd",
        "printf",
        "echo",
        "uuid",
        "eval",
        "source",
        "npx",
        "jq",
        "head",
        "tail",
        "test",
        "true",
        "ls",
        "rm",
        "mkdir",
        "mktemp",
        "cp",
        "cut",
        "chown",
        "apt-get",
        "openssl",
        "ssh",
        "kill",
        "sleep",
        "grep",
        "wait",
        "read",
        "base64",
        "docker",
        "kubectl",
        "./generate.sh",
        "./shop",
    ]
)
#: What the documents make by `weft new service`, so that no contract here has it.
MADE: Final = ("parcels", "images")
_SHELL: Final = frozenset(
    ["{", "}", "(", ")", "!", "if", "then", "else", "fi", "for", "do", "done", "in", "while", "until", "[", "]", "sudo"]
)
#: What set-up puts into the clone's environment: a reader's shell finds none of it by its bare name.
_INSTALLED: Final = frozenset(["weft", "python", "python3", "buf", "pytest", "uv", "ruff", "mypy"])
_ASSIGNS: Final = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_URL: Final = re.compile(r"https?://(?:127\.0\.0\.1|localhost):\d+(?P<path>/v1/[^\s\"'?]*)")
_TARGET: Final = re.compile(r"^([a-z-]+):", re.MULTILINE)


def commands(text: str) -> Iterator[Sequence[str]]:
    """The simple commands of a script as words; what is substituted counts as commands of its own."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in joined.splitlines():
        line = re.sub(r"^\w+\(\) \{(.*)\}$", r"\1", line)
        for inner in re.findall(r"\$\(([^()]*)\)", line):
            yield from commands(inner)
        reader = shlex.shlex(re.sub(r"\$\([^()]*\)", "X", line), posix=True, punctuation_chars=";|&<>")
        reader.whitespace_split = True
        words: list[str] = []
        for word in [*reader, ";"]:
            if not set(word) <= set(";|&"):
                words.append(word)
            elif words:
                yield _bare(words)
                words = []


def _bare(words: Sequence[str]) -> Sequence[str]:
    """Without assignments, words of the shell and `sudo` before the command."""
    left = list(words)
    while left and (left[0] in _SHELL or _ASSIGNS.fullmatch(left[0])):
        left.pop(0)
    return left


def wrong(text: str) -> list[str]:
    """What a script names that is not there."""
    found = []
    for words in commands(text):
        if words:
            found += list(_wrong(words))
    return [*found, *(f"no method has the path {path}" for path in _URL.findall(text) if not _served(path))]


def _wrong(words: Sequence[str]) -> Iterator[str]:
    program, *arguments = words
    if program in _INSTALLED:
        yield f"{program} is not on the PATH: .venv/bin/{program}"
    elif program == ".venv/bin/weft":
        yield from unknown(arguments)
    elif program == "make":
        yield from (f"make has no target {word}" for word in arguments if "=" not in word and word not in _targets())
        makefile = (ROOT / "Makefile").read_text()
        for name in (word.partition("=")[0] for word in arguments if "=" in word):
            if f"$({name})" not in makefile and f",{name})" not in makefile:
                yield f"make takes no {name}"
    elif program == ".venv/bin/python" and arguments[:1] == ["-m"]:
        if find_spec(arguments[1]) is None:
            yield f"there is no module {arguments[1]}"
    elif program.startswith(".venv/bin/"):
        if not (ROOT / program).exists():
            yield f"set-up installs no {program}"
    elif "/" in program and program not in OTHERS:
        if not (ROOT / program).is_file():
            yield f"there is no {program}"
    elif program not in OTHERS:
        yield f"{program} is no command that is known here"


def unknown(arguments: Sequence[str]) -> Iterator[str]:
    """Verbs and flags of `weft` that there are not. What stands for several (`a|b`), and what may be left out, is taken
    apart."""
    command: Any = app
    path = ["weft"]
    rest = list(arguments)
    while isinstance(command, Verbs) and rest and not rest[0].startswith("-"):
        word = rest.pop(0)
        if word not in command.commands:
            yield f"{' '.join(path)} has no verb {word}"
            return
        command = command.commands[word]
        path.append(word)
    known = _flags(command)
    for word in rest:
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[A-Za-z][\w-]*", flag) and flag not in known:
            yield f"{' '.join(path)} takes no {flag}"


@cache
def _flags(command: Verb | Verbs) -> frozenset[str]:
    loaded = command.load() if isinstance(command, Verb) else command
    flags = {"--help"}
    for parameter in loaded.params:
        flags.update(parameter.opts)
        flags.update(parameter.secondary_opts)
    return frozenset(flags)


@cache
def _targets() -> frozenset[str]:
    return frozenset(_TARGET.findall((ROOT / "Makefile").read_text()))


@cache
def _paths() -> Sequence["re.Pattern[str]"]:
    """The paths that the contracts bind to methods."""
    found = []
    for service in policy.SERVICES:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for one in (rule, *rule.additional_bindings):
                template = one.get or one.put or one.post or one.delete or one.patch
                found.append(re.compile(_pattern(template)))
    return found


def _pattern(template: str) -> str:
    """A path template (google/api/http.proto) as an expression."""
    bare = re.sub(r"\{[\w.]+=([^}]*)\}", r"\1", template)
    pieces = re.split(r"(\{[\w.]+\}|\*\*|\*)", bare)
    return "".join(".+" if piece == "**" else "[^/:]+" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))


def _served(path: str) -> bool:
    made = path.startswith(tuple(f"/v1/{name}" for name in MADE))
    return made or any(pattern.fullmatch(path) for pattern in _paths())
