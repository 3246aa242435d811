"""A backup that has its name is on the disk: all of it before it is moved there, and then the move."""

import os
from pathlib import Path

import pytest

from deploy.backup import bundle
from deploy.backup.bundle import Dump, Manifest

MANIFEST = Manifest("2026-11-23T12:00:00+00:00", False, {"orders": Dump("0001", "2026-11-23T12:00:00Z")})


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, bool]]:
    """What was synced, and whether the backup had its name then."""
    found: list[tuple[str, bool]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        found.append((str(path.relative_to(tmp_path)), any(tmp_path.glob("monday*"))))

    monkeypatch.setattr(os, "fsync", watched)
    return found


def write(target: Path) -> None:
    with bundle.writing(target) as folder:
        (folder / "databases").mkdir()
        (folder / "databases" / "orders.dump").write_bytes(b"dump" * 1000)
        bundle.seal(folder, MANIFEST)


def test_a_tar_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: list[tuple[str, bool]]) -> None:
    write(tmp_path / "monday.tar")

    assert [(".", True)] == [each for each in synced if each[1]]
    assert 1 == sum(name.endswith(".tar") for name, named in synced if not named)
    with bundle.reading(tmp_path / "monday.tar") as (folder, manifest):
        assert ("0001", 4000) == (
            manifest.databases["orders"].revision,
            len((folder / "databases/orders.dump").read_bytes()),
        )


def test_a_directory_is_whole_on_the_disk_before_it_has_its_name(
    tmp_path: Path, synced: list[tuple[str, bool]]
) -> None:
    write(tmp_path / "monday")

    assert [(".", True)] == [each for each in synced if each[1]]
    # Less the directory that it was written in, whose name is by chance.
    assert {"", "databases", "databases/orders.dump", "manifest.json"} == {
        name.partition("/")[2] for name, named in synced if not named
    }
