"""Every block of commands in a document is run, or somebody said why not; and all that one names is there."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.clone_copy import Copy
from tests.documents import blocks, commands
from tests.documents.blocks import ROOT, Block, matches
from tests.documents.shell import Reading, run

# A copy of the clone is made and generated from in some: seconds, and minutes on a machine that does other things.
pytestmark = pytest.mark.timeout(900)

ALL = [block for path in blocks.documents() for block in blocks.of(path)]
SCRIPTS = [block for block in ALL if block.commands]
#: Blocks of these say something else than what to type.
LANGUAGES = {"proto", "python", "json", "ts", "go", "yaml", "toml", "sql", "text", ""}


def of_kind(kind: str) -> Sequence[Sequence[Block]]:
    """The blocks of a kind, by document."""
    documents = dict.fromkeys(block.document for block in SCRIPTS if block.kind == kind)
    return [[block for block in SCRIPTS if (block.document, block.kind) == (name, kind)] for name in documents]


def test_every_block_of_commands_is_classified() -> None:
    assert [] == [block.place for block in SCRIPTS if not block.why and block.kind not in blocks.KINDS]
    assert [] == [block.place for block in ALL if not block.commands and block.language not in LANGUAGES]


def test_a_block_without_a_language_holds_no_command() -> None:
    typed = re.compile(r"^(\$ |\.venv/bin/|make |curl )", re.MULTILINE)

    assert [] == [block.place for block in ALL if not block.commands and typed.search(block.text)]


def test_a_block_that_is_not_run_names_a_test_that_is_there_where_it_names_one() -> None:
    named = [(block.place, name) for block in SCRIPTS for name in re.findall(r"tests/[\w/.]+\.py", block.why)]

    assert [] == [one for one in named if not (ROOT / one[1]).is_file()]


@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.place)
def test_all_that_commands_name_is_there(block: Block) -> None:
    assert [] == commands.wrong(block.text)


def test_verbs_and_flags_that_are_named_in_a_sentence_are_there() -> None:
    wrong = []
    for path in [*blocks.documents(), ROOT / "README.ko.md", ROOT / "CHANGELOG.md"]:
        prose = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
        for said in re.findall(r"`weft ([a-z][^`\n]*)`", prose):
            words = re.sub(r"\\?\|.*?(?=[ \]]|$)|[\[\],]|\.\.\.", " ", said).split()
            wrong += [f"{path.name}: weft {said}: {each}" for each in commands.unknown(words)]
    assert [] == wrong


@pytest.mark.parametrize("script", of_kind("here"), ids=lambda script: script[0].document)
def test_commands_that_need_no_mesh_do_what_the_document_says(script: Sequence[Block], tmp_path: Path) -> None:
    ran = run(script, Reading(environ={"WEFT_DATA": str(tmp_path), "TMPDIR": str(tmp_path)}))

    assert [] == [each.wrong for each in ran if each.wrong]
    assert len(script) == len(ran)


@pytest.mark.parametrize("script", of_kind("copy"), ids=lambda script: script[0].document)
def test_commands_that_change_the_clone_do_what_the_document_says(script: Sequence[Block], tmp_path: Path) -> None:
    copy = Copy(tmp_path / "weft")
    ran = run(script, Reading(copy.root, str(copy.python), {"WEFT_DATA": str(tmp_path / "data")}))

    assert [] == [each.wrong for each in ran if each.wrong]
    assert len(script) == len(ran)


DOCUMENT = """
Words.

<!-- run: here, exits 1 -->

```sh
echo one
false
```

```text
o...
```

<!-- read: needs a
-->
```sh
rm -rf /
```

```json
{}
```
"""


def test_a_block_is_what_its_document_says_of_it() -> None:
    first, second, third = blocks.read(DOCUMENT, "a.md")

    assert ("here", 1, "echo one\nfalse", "o...") == (first.kind, first.code, first.text, first.prints)
    assert ("", "") == (second.kind, second.why), "a word that is no classification is none"
    assert ("json", False) == (third.language, third.commands)


@pytest.mark.parametrize(
    ("expected", "printed", "fits"),
    [
        ("one", "one\n", True),
        ("one", "one\ntwo\n", False),
        ("one\n...", "one\ntwo\nthree\n", True),
        ("...\nthree", "one\ntwo\nthree\n", True),
        ("a ... c", "a b c", True),
        ("a ... c", "a b\nc", False),
        ("(1.5)", "(1x5)", False),
    ],
)
def test_what_is_printed_is_held_against_what_is_expected(expected: str, printed: str, fits: bool) -> None:
    assert fits == matches(expected, printed)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("make nothing", ["make has no target nothing"]),
        ("make test WHATEVER=1", ["make takes no WHATEVER"]),
        (".venv/bin/weft roll orders --gently", ["weft roll takes no --gently"]),
        ("TOKEN=$(.venv/bin/weft tokens)", ["weft has no verb tokens"]),
        (".venv/bin/weft dlq list | .venv/bin/weft dlq bury", ["weft dlq has no verb bury"]),
        ("sudo .venv/bin/weft export everything", ["weft export has no verb everything"]),
        ("weft status", ["weft is not on the PATH: .venv/bin/weft"]),
        (
            "TOKEN=$(weft token) python -m worker facts",
            [f"{one} is not on the PATH: .venv/bin/{one}" for one in ("weft", "python")],
        ),
        ("curl -s http://127.0.0.1:8080/v1/baskets", ["no method has the path /v1/baskets"]),
        (".venv/bin/python -m worker.nothing", ["there is no module worker.nothing"]),
        ("deploy/install.sh", ["there is no deploy/install.sh"]),
        ("frobnicate now", ["frobnicate is no command that is known here"]),
        ("make up PROFILE=ha && .venv/bin/weft roll orders \\\n  --under-load 5 # gently", []),
        ("curl -s http://127.0.0.1:8080/v1/orders/ID:cancel -d '{}'", []),
    ],
)
def test_a_name_that_is_not_there_is_found(text: str, says: list[str]) -> None:
    assert says == commands.wrong(text)


def test_a_command_that_fails_ends_its_block_and_those_behind_it(tmp_path: Path) -> None:
    script = [Block("a.md", 1, "sh", text, "here") for text in ("A=1\necho $A", "echo $A\nfalse\necho no", "echo $A")]
    ran = run(script, Reading(tmp_path))

    assert [(0, "1"), (1, "1")] == [(each.code, each.output.strip()) for each in ran]
    assert ["", "exit code 1 instead of 0: a.md:1"] == [each.wrong.partition("\n")[0] for each in ran]


def test_a_command_that_is_to_fail_does_not_end_the_document(tmp_path: Path) -> None:
    script = [Block("a.md", 1, "sh", "false", "here", code=1), Block("a.md", 5, "sh", "echo on", "here")]

    assert [(1, ""), (0, "on")] == [(each.code, each.output.strip()) for each in run(script, Reading(tmp_path))]
