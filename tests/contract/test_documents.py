"""What the documents name is there, and what is there is named; what the README shows of code and figures is so."""

import json
import re
from pathlib import Path

import pytest
from google.protobuf import text_format

from deploy.cli.app import app
from deploy.supervisor import config
from tests.documents import links
from tests.documents.blocks import documents
from weft.options.v1 import policy_pb2
from weft_protos import policy

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs/reference/settings.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()


def test_every_setting_is_described() -> None:
    named = set(re.findall(r"WEFT_[A-Z_]+", SETTINGS))

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


def test_every_link_within_the_documents_leads_somewhere() -> None:
    others = [ROOT / "README.ko.md", ROOT / "CHANGELOG.md", *(ROOT / "protos" / "clients").glob("*/README.md")]

    assert [] == [each for path in (*documents(), *others) for each in links.broken(path, ROOT)]


@pytest.mark.parametrize(
    ("link", "says"),
    [
        ("[a](#a-heading)", ""),
        ("[a](other.md#two-words)", ""),
        ("[a](other.md#two-words-1)", ""),
        ("`[a](nothing.md)`", ""),
        ("[a](https://weft.example/nothing)", ""),
        ("[a](nothing.md)", "a.md: nothing.md: there is no such file"),
        ("[a](../)", "a.md: ../: there is no such file"),
        ("[a](#nothing)", "a.md: #nothing: there is no such heading"),
        ("![a](other.md#three)", "a.md: other.md#three: there is no such heading"),
    ],
)
def test_a_link_that_leads_nowhere_is_found(tmp_path: Path, link: str, says: str) -> None:
    (tmp_path / "other.md").write_text("# Two *words*\n\n```\n# three\n```\n\n## Two words\n")
    (tmp_path / "a.md").write_text(f"# A `heading`\n\n{link}\n")

    assert says == "".join(links.broken(tmp_path / "a.md", tmp_path))


def test_the_method_that_the_readme_begins_with_has_that_policy() -> None:
    shown = re.search(r"option \(weft\.options\.v1\.policy\) = \{(.*?)\n  \};", README, re.DOTALL)
    assert shown is not None
    said = text_format.Parse(shown[1], policy_pb2.MethodPolicy())
    (method,) = (each for service in policy.SERVICES for each in service.methods if each.name == "PlaceOrder")
    effective = policy.effective(method)

    assert 4 == len(said.ListFields())
    assert said.ListFields() == [each for each in effective.ListFields() if each[0] in dict(said.ListFields())]


def test_the_handler_beside_it_is_the_one_that_serves() -> None:
    shown = re.search(r"```python\nclass OrderHandler:\n(.*?)```", README, re.DOTALL)
    assert shown is not None

    assert shown[1] in (ROOT / "svc/orders/rpc.py").read_text()


def test_every_claim_that_was_measured_is_on_the_page_of_benches() -> None:
    told = (ROOT / "docs/reference/benchmarks.md").read_text()

    assert [] == [path.stem for path in (ROOT / "bench/results").glob("*.json") if f"`{path.stem}`" not in told]


def test_the_figures_on_the_first_screen_are_those_that_were_measured() -> None:
    rows = re.findall(r"^\| [^|]+ \| ([\d.]+) \| `\.venv/bin/python -m bench\.(\w+)` \|$", README, re.MULTILINE)
    claims = {
        "json_gateway": "json_gateway_get",
        "gateway_hop": "gateway_hop_handwritten",
        "control_plane": "control_plane_1000",
        "publish": "publish",
        "overload": "overload_critical",
    }

    measured = {bench: json.loads((ROOT / f"bench/results/{name}.json").read_text()) for bench, name in claims.items()}
    assert {bench: str(each["figure"]) for bench, each in measured.items()} == {bench: said for said, bench in rows}
    missed = [bench for bench, each in measured.items() if each["verdict"] == "missed"]
    assert [] == missed, "a sentence below the table names those that miss their floor"
