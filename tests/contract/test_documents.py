"""What the documents name is there, and what is there is named."""

import re
from pathlib import Path

from deploy.cli.app import app
from deploy.supervisor import config

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_the_readme_names_every_setting() -> None:
    named = set(re.findall(r"WEFT_[A-Z_]+", README))

    assert {*config.KNOWN, *config.PER_PROCESS} == named


def test_the_readme_names_every_verb() -> None:
    assert set() == {verb for verb in app.commands if f"weft {verb}" not in README}


def test_every_file_the_architecture_names_exists() -> None:
    names = set(re.findall(r"`([a-z_]+/[A-Za-z0-9_/.*{},-]+\.(?:py|proto))`", ARCHITECTURE))
    assert len(names) > 20

    missing = []
    for name in names:
        group = re.search(r"\{(.*)\}", name)
        paths = [name.replace(group[0], one) for one in group[1].split(",")] if group else [name]
        missing += [path for path in paths if not (ROOT / path).is_file()]
    assert [] == missing
