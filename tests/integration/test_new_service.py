"""A second service from nothing, and its first changes, as a stranger makes them: in a copy of the clone, with the
commands alone, on a mesh that the copy starts on free ports. The second example is in that mesh, too.
"""

import base64
import io
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image

from deploy.supervisor.mesh import Mesh
from deploy.supervisor.workspace import temporary
from tests import second_example
from tests.clone_copy import Copy
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(1200)

#: What a save leads to, on a machine that does other things as well.
SAVE_S: Final = 180.0
RPC: Final = "svc/parcels/rpc.py"
CONTRACT: Final = "protos/weft/parcels/v1/parcels.proto"


@dataclass(frozen=True)
class Parcels:
    """The service in its running mesh."""

    copy: Copy
    data: Path
    mesh: Mesh
    began: float
    token: str = field(repr=False)

    def call(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One call in JSON through the gateway, never repeated."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.token}"}
        asked = urllib.request.Request(f"{self.mesh.status().gateway}{path}", data, headers)
        with urllib.request.urlopen(asked, timeout=30) as response:
            said: dict[str, Any] = json.load(response)
        return said

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A verb of `weft`, in the copy."""
        return self.copy.run("deploy.cli", *arguments, WEFT_DATA=str(self.data))


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parcels]:
    copy = Copy(tmp_path_factory.mktemp("clone"))
    second_example.put(copy)
    began = time.monotonic()
    made = copy.run("deploy.cli", "new", "service", "parcels", "--with-events")
    assert 0 == made.returncode, made.stderr
    with temporary() as data, copy.mesh(data) as mesh:
        token = copy.run("deploy.cli", "token", WEFT_DATA=str(data))
        assert 0 == token.returncode, token.stderr
        yield Parcels(copy, data, mesh, began, token.stdout.strip())


def test_a_new_service_is_called_minutes_later_and_nothing_was_edited(
    parcels: Parcels, capsys: pytest.CaptureFixture[str]
) -> None:
    created = parcels.call("/v1/parcels?parcel_id=first", {"display_name": "The first"})

    with capsys.disabled():
        print(f"\nfrom nothing to a call of a second service: {time.monotonic() - parcels.began:.0f} s")
    assert ("parcels/first", "The first") == (created["name"], created["displayName"])
    assert created == parcels.call("/v1/parcels/first")
    running = parcels.mesh.status().processes
    assert ["parcels-1", "parcels-2", "parcels-worker-1"] == sorted(
        one.name for one in running if one.service.startswith("parcels")
    )


def test_the_example_turns_an_image_into_a_thumbnail(parcels: Parcels, capsys: pytest.CaptureFixture[str]) -> None:
    made = io.BytesIO()
    Image.effect_mandelbrot((640, 480), (-2.2, -1.2, 1, 1.2), 100).save(made, "PNG")
    image = {"display_name": "apple.png", "content": base64.b64encode(made.getvalue()).decode()}
    began = time.monotonic()

    name = parcels.call("/v1/images", image)["name"]
    eventually(lambda: "STATE_READY" == parcels.call(f"/v1/{name}")["state"])
    thumbnail = parcels.call(f"/v1/{name}/thumbnail")

    with capsys.disabled():
        print(f"\nfrom an image to its thumbnail: {time.monotonic() - began:.2f} s")
    with Image.open(io.BytesIO(base64.b64decode(thumbnail["content"]))) as small:
        assert ("WEBP", (160, 120)) == (small.format, small.size)


def test_their_own_tests_pass_in_their_running_mesh(parcels: Parcels) -> None:
    done = parcels.copy.run(
        *("pytest", "-q", "-p", "no:cacheprovider", "tests/unit/svc/parcels"),
        *("tests/integration/test_parcels.py", "tests/integration/test_thumbnails.py"),
        WEFT_TEST_MESH=str(parcels.data),
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_a_refusal_is_explained_and_objectives_are_watched_without_a_word_more(parcels: Parcels) -> None:
    explained = parcels.command("explain", "CreateParcel", "--as", "parcels.read")
    assert "parcels.write" in explained.stdout + explained.stderr

    rules = json.load(urllib.request.urlopen(f"{parcels.mesh.status().urls['metrics']}api/v1/rules", timeout=30))
    assert "ParcelsService" in json.dumps(rules)


class Dev:
    """`weft dev`, and what it says."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip())

    def until(self, pattern: str) -> str:
        """Read on to a line with a pattern in it."""
        give_up = time.monotonic() + SAVE_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, give_up - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"no line with {pattern!r} in time; it said {self.said[-30:]}")
            self.said.append(line)
            if re.search(pattern, line):
                return line


@pytest.fixture
def dev(parcels: Parcels) -> Iterator[Dev]:
    process = subprocess.Popen(
        [str(parcels.copy.python), "-u", "-m", "deploy.cli", "dev"],
        cwd=parcels.copy.root,
        env={**os.environ, "WEFT_DATA": str(parcels.data)},  # noqa: TID251 - what a shell in the copy would have
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    following = Dev(process)
    try:
        following.until("^watching ")
        yield following
        process.send_signal(signal.SIGINT)
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def shown(parcels: Parcels) -> Callable[[], set[str]]:
    """What some calls, one after another, are answered by whoever gets them."""
    name = parcels.call("/v1/parcels", {"display_name": "Shown"})["name"]
    return lambda: {str(parcels.call(f"/v1/{name}")["displayName"]) for _ in range(8)}


def test_saved_code_is_what_answers_and_broken_code_is_not(
    parcels: Parcels, dev: Dev, shown: Callable[[], set[str]]
) -> None:
    parcels.copy.edit(RPC, "display_name=parcel.display_name)", "display_name=parcel.display_name.upper())")
    dev.until("parcels-2 renewed")
    dev.until("done after")
    assert {"SHOWN"} == shown()

    parcels.copy.edit(RPC, "def to_message(", "def to_message((")
    dev.until(rf"weft: {re.escape(RPC)}:[0-9]+: ")
    dev.until("goes on with what it has")
    assert {"SHOWN"} == shown()

    parcels.copy.edit(RPC, "def to_message((", "def to_message(")
    parcels.copy.edit(RPC, "display_name=parcel.display_name.upper())", "display_name=parcel.display_name)")
    dev.until("done after")
    eventually(lambda: {"Shown"} == shown())


@pytest.mark.long(short="test_saved_code_is_what_answers_and_broken_code_is_not")
def test_code_that_compiles_and_cannot_run_takes_one_instance_and_no_caller(
    parcels: Parcels, dev: Dev, shown: Callable[[], set[str]]
) -> None:
    parcels.copy.edit(RPC, "PAGE_SIZE_DEFAULT: Final = 50", "PAGE_SIZE_DEFAULT: Final = FIFTY")
    dev.until("weft: parcels-1 does not come up")
    dev.until("goes on with what it has")
    assert {"Shown"} == shown()

    parcels.copy.edit(RPC, "PAGE_SIZE_DEFAULT: Final = FIFTY", "PAGE_SIZE_DEFAULT: Final = 50")
    dev.until("parcels-2 renewed")
    dev.until("done after")
    parcels.mesh.wait_ready()


def test_a_contract_that_breaks_a_rule_is_shown_in_its_place_and_not_published(
    parcels: Parcels, dev: Dev, shown: Callable[[], set[str]]
) -> None:
    access = '      scopes: "parcels.read"\n      retry: {max_attempts: 3}\n      errors'
    parcels.copy.edit(CONTRACT, access, access.replace('scopes: "parcels.read"\n', ""))
    dev.until(rf"weft: {CONTRACT}:[0-9]+: \S+/GetParcel does not say who may call it")
    dev.until("goes on with what it has")
    assert {"Shown"} == shown()

    parcels.copy.edit(CONTRACT, access.replace('scopes: "parcels.read"\n', ""), access)
    dev.until("done after")


def test_a_contract_that_keeps_the_rules_is_what_gateway_and_service_go_by(parcels: Parcels, dev: Dev) -> None:
    parcels.copy.edit(CONTRACT, "max_len: 200", "max_len: 20")
    dev.until("generated")
    dev.until("published")
    dev.until("done after")

    def refused() -> bool:
        try:
            parcels.call("/v1/parcels", {"display_name": "x" * 21})
        except urllib.error.HTTPError as error:
            return error.code == 400
        return False

    eventually(refused)


def test_ctrl_c_ends_it_and_leaves_a_mesh_that_ran_before(parcels: Parcels, dev: Dev) -> None:
    dev.process.send_signal(signal.SIGINT)

    assert 0 == dev.process.wait(60)
    assert parcels.mesh.wait_ready().ready
