"""What the documents say of a running mesh is so: each block that is marked `run: mesh` does what stands below it.

A document's blocks run in their order, in one shell, in the words of this mesh. They use products and lanes that no
other test has, and leave nothing else behind.
"""

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.cli import pages
from deploy.supervisor.config import child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from tests.documents import blocks
from tests.documents.blocks import Block
from tests.documents.shell import Reading, run
from tests.waiting import eventually

pytestmark = [pytest.mark.timeout(1500), pytest.mark.calls]

SCRIPTS = [
    script
    for path in blocks.documents()
    if (script := [block for block in blocks.of(path) if block.commands and block.kind == "mesh"])
]


@pytest.fixture
def reading(mesh: Mesh, tmp_path: Path) -> Reading:
    """How documents are read at this mesh."""
    data = mesh.secrets.parent
    gateway = urlsplit(mesh.status().gateway).netloc
    words: Mapping[str, str] = {
        # A mesh that was there before may have had these products from an earlier run.
        **{product: f"{product}-{secrets.token_hex(4)}" for product in ("mug", "teapot")},
        "127.0.0.1:8080": gateway,
        "localhost:8080": gateway,
        "/var/lib/weft": str(Layout(data).secrets.parent),
    }
    return Reading(environ={**child_environ(), "WEFT_DATA": str(data), "TMPDIR": str(tmp_path)}, words=words)


def test_there_are_documents_to_follow() -> None:
    assert {"README.md", "docs/quickstart.md", "docs/how-to/why-refused.md"} <= {one[0].document for one in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script[0].document)
def test_what_a_document_says_is_so(script: Sequence[Block], reading: Reading, mesh: Mesh) -> None:
    mesh.wait_ready()

    ran = run(script, reading)

    assert [] == [each.wrong for each in ran if each.wrong]
    assert [block.place for block in script] == [each.block.place for each in ran]
    mesh.wait_ready()


@pytest.mark.parametrize(("path", "name"), [("", "index.html"), ("quickstart.html", "quickstart.html")])
def test_the_documents_are_where_the_console_is(mesh: Mesh, documents: Path, path: str, name: str) -> None:
    def served() -> str:
        try:
            return pages.read(f"{mesh.status().gateway}/docs/{path}")[0]
        except OSError:  # nothing of the kind is there, or the gateway is away at the moment
            return ""

    eventually(lambda: (documents / name).read_text() == served())
