"""Generating the code of the contracts, as far as it is more than buf: who writes it, and when."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import generate
import pytest


def test_whoever_generates_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "protos" / "gen").mkdir(parents=True)
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    folder = os.open(tmp_path / "protos" / "gen", os.O_RDONLY)
    free = []

    def generating(_: Path) -> None:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free.append(True)
        except BlockingIOError:
            free.append(False)
        raise subprocess.CalledProcessError(7, "buf")

    monkeypatch.setattr(generate, "generate", generating)
    monkeypatch.setattr(sys, "argv", ["generate.py"])

    assert 7 == generate.main()
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(folder)

    assert [False] == free
