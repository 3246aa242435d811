"""The files of a backup: a directory, or the same as a `.tar`, with a manifest that holds the checksum of each file.

A backup is written beside its place, synced, and moved there when it is whole: what was interrupted is never taken for
one, and what is there stays over a loss of power.
"""

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.supervisor.errors import ConfigError, SupervisorError

FORMAT = 1
MANIFEST = "manifest.json"
TAR = ".tar"
CHUNK = 1 << 20


class BackupError(SupervisorError):
    """A backup cannot be made, or is not whole. The message is one line."""


@dataclass(frozen=True, slots=True)
class Dump:
    """One database of a backup."""

    revision: str
    """Of its migrations."""
    snapshot_time: str
    """The moment it is of, RFC 3339, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is."""

    create_time: str
    keys: bool
    """Whether the keys are in it without which the identity database cannot be used."""
    databases: Mapping[str, Dump]
    checksums: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file, by its path."""
    format: int = FORMAT


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """A directory that becomes the backup at `target` when the block ends well. Raises ConfigError, BackupError."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"{target} exists already; give a new name")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is no directory")
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))  # 0700
    try:
        yield draft
        if target.suffix == TAR:
            packed = draft.with_name(f"{draft.name}{TAR}")
            packed.touch(mode=0o600)
            with tarfile.open(packed, "w") as archive:
                for path in sorted(draft.rglob("*")):
                    archive.add(path, arcname=str(path.relative_to(draft)), recursive=False)
            _sync(packed)
            packed.replace(target)
        else:
            for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
                _sync(folder)
            draft.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise BackupError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        draft.with_name(f"{draft.name}{TAR}").unlink(missing_ok=True)


def seal(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with the checksums of all files there are; the manifest as written."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    whole = Manifest(
        create_time=manifest.create_time,
        keys=manifest.keys,
        databases=manifest.databases,
        checksums={str(path.relative_to(folder)): checksum(path) for path in files},
    )
    (folder / MANIFEST).write_text(json.dumps(asdict(whole), indent=1, sort_keys=True))
    for path in (*files, folder / MANIFEST):
        path.chmod(0o600)
        _sync(path)
    return whole


def _sync(path: Path) -> None:
    """Have the disk hold what a file or a directory is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def reading(source: Path) -> Iterator[tuple[Path, Manifest]]:
    """The directory of a backup and its manifest, once every file is what it was. Raises ConfigError, BackupError."""
    if source.is_dir():
        yield source, _verified(source)
        return
    if not source.is_file():
        raise ConfigError(f"{source} is neither a directory nor a file; give what `weft backup` has made")
    with tempfile.TemporaryDirectory(prefix="weft-restore-") as unpacked:
        try:
            with tarfile.open(source) as archive:
                archive.extractall(unpacked, filter="data")
        except (tarfile.TarError, OSError) as error:
            raise BackupError(f"{source} is not a backup: {error}") from error
        yield Path(unpacked), _verified(Path(unpacked))


def _verified(folder: Path) -> Manifest:
    try:
        stored = json.loads((folder / MANIFEST).read_text())
        databases = {name: Dump(**dump) for name, dump in stored.pop("databases").items()}
        manifest = Manifest(**stored, databases=databases)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(f"{folder / MANIFEST} cannot be read: it is not a backup, or not a whole one") from error
    if manifest.format != FORMAT:
        raise BackupError(f"{folder} is a backup of format {manifest.format}; this release reads {FORMAT}")
    for name, expected in manifest.checksums.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise BackupError(f"{path} is missing; the backup is not whole")
        if checksum(path) != expected:
            raise BackupError(f"{path} is damaged: its checksum is another one than in {MANIFEST}")
    return manifest


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
