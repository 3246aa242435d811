"""Java and the jar that Zipkin needs: found, or fetched once, and refused with what to do before anything is started.

The jar comes from Maven Central over HTTPS. What is used is what the pinned checksum says, also when it has been here
for a while; a jar of the user's own (`WEFT_ZIPKIN_JAR`) is taken as it is.
"""

import hashlib
import http.client
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.supervisor.config import child_environ
from deploy.supervisor.errors import ConfigError

FOLDER: Final = Path(sys.prefix) / "share" / "weft"
"""Of the environment that set-up made, so every data directory and every clean start has the same one."""
JAVA_LEAST: Final = 17
_FIX: Final = "apt install openjdk-17-jre-headless"
_VERSION: Final = re.compile(r'version "(?:1\.)?(\d+)')
_TIMEOUT_S: Final = 30.0
_CHUNK: Final = 1 << 20
_MB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Release:
    """A file of the network, and what tells it from any other."""

    name: str
    url: str
    size: int
    """In bytes."""
    sha256: str


RELEASE: Final = Release(
    name="zipkin-server-3.6.1-slim.jar",
    url="https://repo1.maven.org/maven2/io/zipkin/zipkin-server/3.6.1/zipkin-server-3.6.1-slim.jar",
    size=86_436_567,
    sha256="981b1de6139b4f8f787a909c308028732f9713ae5284353d2a5aa404d1094775",
)


def path(own: Path | str | None) -> Path:
    """Where the jar lies, whether or not it does yet."""
    return Path(own) if own else FOLDER / RELEASE.name


def java() -> str:
    """The `java` of the search path; just its name where there is none."""
    return shutil.which("java", path=child_environ()["PATH"]) or "java"


def make_ready(
    own: Path | None, *, folder: Path = FOLDER, release: Release = RELEASE, say: Callable[[str], None] | None = None
) -> None:
    """Have a Java that is new enough, and a jar: `own`, or the one that Weft knows. Raises ConfigError.

    `say` is told of what takes a while, before it begins.
    """
    _require_java(java())
    if own is None:
        _require_release(folder, release, say)
    elif not zipfile.is_zipfile(own):
        said = "is no jar" if own.is_file() else "cannot be read"
        raise ConfigError(f"WEFT_ZIPKIN_JAR={own} {said}; name a zipkin-server jar, or unset it to have one fetched")


def _require_java(program: str) -> None:
    try:
        answer = subprocess.run(
            [program, "-version"], env=child_environ(), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise ConfigError(f"Zipkin needs Java {JAVA_LEAST} or newer, and there is no `java` here: {_FIX}") from error
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"Zipkin needs Java, and {program} cannot be run ({error}): {_FIX}") from error
    found = _VERSION.search(answer.stderr + answer.stdout)
    if found is None or int(found[1]) < JAVA_LEAST:
        told = f"is Java {found[1]}" if found else "does not say which Java it is"
        raise ConfigError(f"Zipkin needs Java {JAVA_LEAST} or newer, and {program} {told}: {_FIX}")


def _require_release(folder: Path, release: Release, say: Callable[[str], None] | None) -> None:
    kept = folder / release.name
    try:
        if kept.exists() and _is(kept, release):
            return
        if say is not None:
            say(f"fetching {release.name} once ({release.size / _MB:.0f} MB)")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as place:
            fetched = Path(place) / release.name
            _fetch(release, fetched)
            if not _is(fetched, release):
                raise ConfigError(
                    f"{release.url} is not the file that Weft knows (SHA-256 {release.sha256[:12]}...), so it was not "
                    "kept; try again, or name a jar of your own in WEFT_ZIPKIN_JAR"
                )
            fetched.replace(kept)
    except OSError as error:
        raise ConfigError(f"{folder} cannot hold {release.name} ({error}); name one in WEFT_ZIPKIN_JAR") from error


def _fetch(release: Release, place: Path) -> None:
    """As much of it as there should be, and a byte more where there is more."""
    try:
        with urllib.request.urlopen(release.url, timeout=_TIMEOUT_S) as answer, place.open("wb") as file:
            left = release.size + 1
            while left and (chunk := answer.read(min(_CHUNK, left))):
                file.write(chunk)
                left -= len(chunk)
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"{release.url} cannot be fetched ({getattr(error, 'reason', error)}); check the network, or name a jar of "
            "your own in WEFT_ZIPKIN_JAR"
        ) from error


def _is(file: Path, release: Release) -> bool:
    if file.stat().st_size != release.size:
        return False
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == release.sha256
