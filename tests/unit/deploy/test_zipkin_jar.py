"""What `weft up --traces zipkin` needs of the machine, and the server it adds to the stack."""

import asyncio
import contextlib
import hashlib
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.cli.__main__ import run
from deploy.supervisor import zipkin_jar
from deploy.supervisor.config import Settings
from deploy.supervisor.desired import Desired
from deploy.supervisor.errors import ConfigError
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.part import Server
from deploy.supervisor.readiness import Http
from deploy.supervisor.servers import zipkin
from deploy.supervisor.zipkin_jar import Release
from tests.unit.deploy.test_stack import build, environ, named
from tests.waiting import free_port

FIX = "apt install openjdk-17-jre-headless"


@pytest.fixture
def java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a `java` that says of itself what it is told to; before that there is none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(version: str) -> Path:
        program = folder / "java"
        program.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
        program.chmod(0o755)
        return program

    return make


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Says nothing."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def jar_bytes() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Main-Class: x\n")
    return content.getvalue()


def release_of(content: bytes, base: str) -> Release:
    return Release("z.jar", f"{base}/z.jar", len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    "version", ['openjdk version "17.0.15" 2025-04-15', 'java version "21" 2023-09-19 LTS', 'openjdk version "25-ea"']
)
def test_a_java_that_is_new_enough_will_do(java: Callable[[str], Path], version: str, tmp_path: Path) -> None:
    java(version)
    own = tmp_path / "own.jar"
    own.write_bytes(jar_bytes())

    zipkin_jar.make_ready(own)


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ('java version "1.8.0_402"', "is Java 8"),
        ('openjdk version "11.0.22" 2024-01-16', "is Java 11"),
        ("Unrecognized option", "does not say which Java it is"),
    ],
)
def test_a_java_that_is_too_old_is_named(java: Callable[[str], Path], version: str, told: str) -> None:
    program = java(version)

    with pytest.raises(ConfigError) as caught:
        zipkin_jar.make_ready(None)

    assert f"Zipkin needs Java 17 or newer, and {program} {told}: {FIX}" == str(caught.value)


def test_without_java_up_says_so_before_it_starts_or_writes_anything(
    java: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("WEFT_DATA", str(data))

    assert 2 == run(["up", "--traces", "zipkin"])
    said = capsys.readouterr()
    assert ("", f"weft: Zipkin needs Java 17 or newer, and there is no `java` here: {FIX}\n") == (said.out, said.err)
    assert [] == [*data.iterdir()]


def test_up_takes_only_places_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run(["up", "--traces", "jaeger"])
    assert "'store', 'zipkin'" in capsys.readouterr().err


def test_a_jar_is_fetched_once_and_kept(java: Callable[[str], Path], tmp_path: Path) -> None:
    java('openjdk version "17"')
    content = jar_bytes()
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "z.jar").write_bytes(content)
    folder = tmp_path / "share" / "weft"
    said: list[str] = []
    with serving(tmp_path / "net") as base:
        release = release_of(content, base)
        zipkin_jar.make_ready(None, folder=folder, release=release, say=said.append)

    zipkin_jar.make_ready(None, folder=folder, release=release, say=said.append)  # nobody serves it any more

    assert ["fetching z.jar once (0 MB)"] == said
    assert {"z.jar": content} == {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("wrong", [b"other", jar_bytes()[:-1], jar_bytes() + b"x", bytes(len(jar_bytes()))])
def test_a_jar_that_is_not_the_known_one_is_not_kept(java: Callable[[str], Path], tmp_path: Path, wrong: bytes) -> None:
    java('openjdk version "17"')
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "z.jar").write_bytes(wrong)
    folder = tmp_path / "share"
    with serving(tmp_path / "net") as base:
        release = release_of(jar_bytes(), base)
        with pytest.raises(ConfigError, match=r"is not the file that Weft knows \(SHA-256 .*WEFT_ZIPKIN_JAR") as caught:
            zipkin_jar.make_ready(None, folder=folder, release=release)

    assert ([], "\n" in str(caught.value)) == ([*folder.iterdir()], False)


def test_a_kept_jar_that_was_changed_is_fetched_again(java: Callable[[str], Path], tmp_path: Path) -> None:
    java('openjdk version "17"')
    content = jar_bytes()
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "z.jar").write_bytes(content)
    (tmp_path / "z.jar").write_bytes(bytes(len(content)))
    with serving(tmp_path / "net") as base:
        zipkin_jar.make_ready(None, folder=tmp_path, release=release_of(content, base))

    assert content == (tmp_path / "z.jar").read_bytes()


def test_without_network_the_way_round_it_is_named(java: Callable[[str], Path], tmp_path: Path) -> None:
    java('openjdk version "17"')
    release = release_of(jar_bytes(), f"http://127.0.0.1:{free_port()}")

    with pytest.raises(ConfigError, match=r"cannot be fetched \(.*refused.*check the network, or name a jar") as caught:
        zipkin_jar.make_ready(None, folder=tmp_path, release=release)

    assert "\n" not in str(caught.value)


def test_a_jar_that_the_server_does_not_have_is_said_to_be_missing(java: Callable[[str], Path], tmp_path: Path) -> None:
    java('openjdk version "17"')
    with serving(tmp_path) as base, pytest.raises(ConfigError, match=r"z\.jar cannot be fetched \(.*not found"):
        zipkin_jar.make_ready(None, folder=tmp_path / "share", release=release_of(b"x", base))


@pytest.mark.parametrize(("content", "told"), [(None, "cannot be read"), (b"text", "is no jar")])
def test_a_jar_of_the_users_own_has_to_be_one(
    java: Callable[[str], Path], tmp_path: Path, content: bytes | None, told: str
) -> None:
    java('openjdk version "17"')
    own = tmp_path / "own.jar"
    if content is not None:
        own.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^WEFT_ZIPKIN_JAR={own} {told}; name a zipkin-server jar"):
        zipkin_jar.make_ready(own)


def test_settings_name_zipkin_by_one_word_and_its_jar_by_an_absolute_path() -> None:
    told = {"WEFT_DATA": "/data", "WEFT_TRACES": "zipkin", "WEFT_ZIPKIN_JAR": "/z.jar"}
    settings = Settings.from_environ(told)

    assert ("zipkin", Path("/z.jar")) == (settings.traces, settings.zipkin_jar)
    assert "store" == Settings.from_environ({"WEFT_DATA": "/data"}).traces
    for wrong, message in (
        ({"WEFT_TRACES": "jaeger"}, "WEFT_TRACES=jaeger is unknown; use one of store, zipkin"),
        ({"WEFT_ZIPKIN_JAR": "z.jar"}, r"WEFT_ZIPKIN_JAR=z\.jar is not an absolute path"),
        ({"WEFT_OTLP_ENDPOINT": "http://a:4317"}, "WEFT_OTLP_ENDPOINT sends them to http://a:4317; unset one"),
    ):
        with pytest.raises(ConfigError, match=message):
            Settings.from_environ({**told, **wrong})


def test_the_desired_state_keeps_what_was_asked_for(folder: Path) -> None:
    settings = Settings(data=folder, traces="zipkin", zipkin_jar=Path("/z.jar"))
    asked = Desired.of(settings)
    asked.write(folder / "desired.json")
    read = Desired.read(folder / "desired.json")

    assert (asked, "zipkin", Path("/z.jar")) == (read, read.traces, read.own_jar())
    assert None is Desired.of(replace(settings, traces="store")).own_jar()


def test_another_place_for_traces_than_the_running_meshs_is_named(folder: Path) -> None:
    layout = Layout(folder)
    layout.prepare(None)
    Desired.of(Settings(data=folder)).write(layout.desired)

    assert () == Mesh(folder).differences()
    assert ("traces",) == Mesh(folder, settings=Settings(data=folder, traces="zipkin")).differences()


def test_the_stack_has_zipkin_only_where_it_is_wanted(folder: Path) -> None:
    without = build(folder)
    assert "zipkin" not in {*without.urls(), *(part.name for part in without.parts())}
    assert "WEFT_ZIPKIN" not in environ(named(without.parts(), "traces"))

    stack = build(folder, settings=Settings(data=folder, traces="zipkin", zipkin_jar=Path("/z.jar")))
    parts = stack.parts()
    server = named(parts, "zipkin")

    assert isinstance(server, Server)
    assert f"http://127.0.0.1:{server.ports[0]}/" == stack.urls()["zipkin"]
    assert f"127.0.0.1:{server.ports[0]}" == environ(named(parts, "traces"))["WEFT_ZIPKIN"]
    assert environ(named(parts, "operations-1"))["WEFT_TRACE_STORE"] in str(stack.urls()["traces"])


def test_zipkin_listens_on_loopback_within_bounded_memory(tmp_path: Path) -> None:
    server = zipkin.server("zipkin", Layout(tmp_path), None, port=7, java="/usr/bin/java", jar=Path("/z.jar"))

    assert {"-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"} <= {*server.command.argv}
    assert {"--armeria.ports[0].address=127.0.0.1", "--armeria.ports[0].port=7"} <= {*server.command.argv}
    assert ("mem", "100000") == (server.command.env["STORAGE_TYPE"], server.command.env["MEM_MAX_SPANS"])
    assert ((7,), Http(7, "/health")) == (server.ports, server.probe)


def test_zipkin_runs_a_copy_of_its_jar_that_follows_the_original(tmp_path: Path) -> None:
    jar = tmp_path / "z.jar"
    jar.write_bytes(b"one")
    layout = Layout(tmp_path / "mesh")
    server = zipkin.server("zipkin", layout, None, port=7, java="java", jar=jar)
    copy = layout.home("zipkin") / "zipkin.jar"

    def prepared() -> tuple[bytes, int]:
        assert server.prepare is not None
        asyncio.run(server.prepare())  # type: ignore[arg-type]
        return copy.read_bytes(), copy.stat().st_ino

    first, inode = prepared()
    assert (b"one", inode) == prepared()
    jar.write_bytes(b"two!")
    second, _ = prepared()
    jar.unlink()
    assert (b"one", b"two!", b"two!") == (first, second, prepared()[0])
    assert 0o600 == copy.stat().st_mode & 0o777
