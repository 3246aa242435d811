"""Renders the templates into a clone and finishes them with the project's own tools; all of it, or nothing.

A template is a file of the house with names left open. What a name does to the order of imports and to the length of
lines is what ruff and buf are there for.
"""

import base64
import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import jinja2
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp

from deploy.cli.scaffold.names import Names
from deploy.supervisor.config import child_environ
from weft.events.v1.envelope_pb2 import Envelope
from weft_protos.manifests import SERVICE_FILE

TEMPLATES: Final = Path(__file__).parent / "templates"
SUFFIX: Final = ".j2"
RECORDINGS: Final = "tests/contract/testdata/events"
# 2026-01-01T00:00:00Z
_RECORDED_S: Final = 1_767_225_600
#: Generating every contract's code takes seconds; a busy machine makes them many.
TOOL_TIMEOUT_S: Final = 600.0


class ToolFailedError(Exception):
    """A tool refused what was made; `lines` is what it said."""

    def __init__(self, tool: str, lines: Sequence[str]) -> None:
        super().__init__(f"{tool} failed")
        self.lines = tuple(lines)


def rendered(names: Names, *, events: bool) -> Mapping[str, str]:
    """Every file of a service by its path in the clone."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = {**names.words(), "events": events}
    found = {}
    for kind in ("service", "events") if events else ("service",):
        for source in sorted((TEMPLATES / kind).rglob(f"*{SUFFIX}")):
            inside = source.relative_to(TEMPLATES / kind).as_posix().removesuffix(SUFFIX)
            target = inside.replace("SERVICE", names.service).replace("ITEMS", names.items)
            found[target] = environment.get_template(source.relative_to(TEMPLATES).as_posix()).render(words)
    if events:
        path, text = recording(names)
        found[path] = text
    return found


def recording(names: Names) -> tuple[str, str]:
    """An event as it is first written, which every later contract has to read: the file's path and its text."""
    kind, name = f"weft.{names.service}.v1.{names.words()['Resource']}Created", f"{names.collection}/first"
    created = Timestamp(seconds=_RECORDED_S)
    # The fields of `events.proto.j2`, before there is a class for them: 1 the name, 2 the time.
    fields = (name.encode(), created.SerializeToString())
    payload = b"".join(bytes((number << 3 | 2, len(data))) + data for number, data in enumerate(fields, 1))
    envelope = Envelope(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, kind)),
        type=kind,
        source=names.service,
        occur_time=created,
        ordering_key=name,
        subject="ada",
        payload=Any(type_url=f"type.googleapis.com/{kind}", value=payload),
    )
    content = base64.b64encode(envelope.SerializeToString(deterministic=True)).decode()
    said = {names.json: name, "createTime": created.ToJsonString()}
    return f"{RECORDINGS}/{kind}.json", json.dumps({"envelope": content, "payload": said}, indent=1) + "\n"


def write(clone: Path, files: Mapping[str, str]) -> None:
    """Write the files, in their final form, and the code that is generated from the contracts.

    Whatever goes wrong, an interrupt as well, leaves the clone as it was. Raises ToolFailedError, and OSError, also
    where one of the files is there already.
    """
    with _all_or_nothing(clone, files):
        # The manifest first: whoever sees one of the others, as `weft dev` does, knows by it that this is not all yet.
        for name, text in sorted(files.items(), key=lambda file: not file[0].endswith(SERVICE_FILE)):
            path = clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x") as file:
                file.write(text)
        python = [name for name in files if name.endswith(".py")]
        _run(clone, "ruff", "check", "--no-cache", "--quiet", "--select", "I", "--fix", *python)
        _run(clone, "ruff", "format", "--no-cache", "--quiet", *python)
        for name in files:
            if name.endswith(".proto"):
                _run(clone, "buf", "format", "--write", name)
        generate(clone)
        # What a name means to the compiler: a field that tells of a secret has to be marked, for instance.
        _run(clone, "python", "-m", "gateway", "check")
        export(clone)


def generate(clone: Path) -> None:
    """Generate the code of all contracts, and the documents' pages about them. Raises ToolFailedError."""
    _run(clone, "python", "protos/py/generate.py")
    _run(clone, "python", "-m", "docs.site", "pages")


def export(clone: Path) -> None:
    """Write the desired state in its other forms. Raises ToolFailedError."""
    for form in ("compose", "kubernetes"):
        _run(clone, "python", "-m", "deploy.cli", "export", form)


@contextmanager
def _all_or_nothing(clone: Path, files: Mapping[str, str]) -> Iterator[None]:
    # Deepest first: a directory is removed with what was made in it, and only where it was not there before.
    parents = {parent for name in files for parent in Path(name).parents if parent != Path()}
    made = sorted((path for path in parents if not (clone / path).exists()), key=lambda path: len(path.parts))
    fresh = [name for name in files if not (clone / name).exists()]
    contracts = any(name.endswith(".proto") for name in files)
    try:
        yield
    except BaseException:
        for name in fresh:
            (clone / name).unlink(missing_ok=True)
        for path in reversed(made):
            shutil.rmtree(clone / path, ignore_errors=True)
        if contracts:
            generate(clone)
            export(clone)
        raise


def _run(clone: Path, tool: str, *arguments: str) -> None:
    command = [sys.executable] if tool == "python" else [str(Path(sys.executable).parent / tool)]
    try:
        done = subprocess.run(
            [*command, *arguments],
            cwd=clone,
            env=child_environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise ToolFailedError(tool, [f"{command[0]} is not there; run `make setup`"]) from None
    if done.returncode != 0:
        named = " ".join(arguments).removeprefix("-m ") if tool == "python" else tool
        raise ToolFailedError(named, (done.stdout + done.stderr).splitlines() or [f"ended with {done.returncode}"])
