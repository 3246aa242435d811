"""`weft new service`: what it is called, what is refused, and that what it makes is as good as what was written."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli.__main__ import run
from deploy.cli.scaffold import files
from deploy.cli.scaffold.names import NameRefusedError, Names, Taken, named, plural, singular
from tests import second_example
from tests.clone_copy import Copy

NOTHING = Taken(services=(), methods=(), collections=())
PARCELS = Names("parcels", "parcel")
LONG = "intercontinentalmail"


@pytest.mark.parametrize(
    ("one", "many"),
    [("parcel", "parcels"), ("delivery", "deliveries"), ("box", "boxes"), ("day", "days"), ("glass", "glasses")],
)
def test_one_of_them_and_many_are_found_from_each_other(one: str, many: str) -> None:
    assert (many, one) == (plural(one), singular(many))


def test_a_resource_of_two_words_is_written_as_each_language_writes_it() -> None:
    words = named("shipping", "shipping_label", NOTHING).words()

    assert ("ShippingLabel", "shippingLabels", "SHIPPING_LABEL", "shipping label") == (
        words["Resource"],
        words["collection"],
        words["RESOURCE"],
        words["words"],
    )


@pytest.mark.parametrize(
    ("service", "resource", "message"),
    [
        ("Parcels", "", "'Parcels' cannot be a service's name; give 2 to 20 letters a to z"),
        ("par-cels", "", "cannot be a service's name"),
        ("../x", "", "cannot be a service's name"),
        ("p", "", "cannot be a service's name"),
        ("orders", "", "orders is there already"),
        ("chassis", "", "chassis means something else here"),
        ("class", "", "class means something else here"),
        ("parcels", "Parcel", "--resource: 'Parcel' cannot be a resource's name"),
        ("x" * 21, "", "cannot be a service's name"),
        ("parcels", "x" * 25, "cannot be a resource's name"),
        ("parcels", "parcel_", "--resource: 'parcel_' cannot be a resource's name"),
        ("parcels", "row", "--resource: row means something else in the code"),
        ("parcels", "list", "--resource: list means something else in the code"),
        ("parcels", "product", "--resource: /v1/products is another service's"),
        ("parcels", "session", "--resource: session means something else in the code"),
        ("parcels", "invoice", "--resource: there is a method GetInvoice already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(service: str, resource: str, message: str) -> None:
    taken = Taken(services={"orders"}, methods={"GetInvoice"}, collections={"products"})

    with pytest.raises(NameRefusedError) as refused:
        named(service, resource, taken)

    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["orders", "email", "relay", "postgres", "Parcels"])
def test_the_command_refuses_in_one_line_and_makes_nothing(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == run(["new", "service", name])

    said = capsys.readouterr()
    assert ("", 1, "weft: ") == (said.out, said.err.count("\n"), said.err[:6])


def test_every_template_is_used_and_leaves_no_name_open() -> None:
    made = files.rendered(PARCELS, events=True)

    assert len([*files.TEMPLATES.rglob(f"*{files.SUFFIX}")]) + 1 == len(made)
    assert [] == [path for path, text in made.items() if "{{" in text or "{%" in text or "SERVICE" in path]


def test_what_a_tool_refuses_leaves_the_clone_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "svc").mkdir()
    made = {"svc/parcels/model.py": "VALUE = 1\n", "svc/parcels/deep/broken.py": "def (\n"}

    with pytest.raises(files.ToolFailedError) as failed:
        files.write(tmp_path, made)

    assert any("broken.py" in line for line in failed.value.lines)
    assert [tmp_path / "svc"] == [*tmp_path.rglob("*")]


def test_a_file_that_is_there_already_is_neither_changed_nor_removed(tmp_path: Path) -> None:
    there = tmp_path / "svc" / "parcels" / "b.py"
    there.parent.mkdir(parents=True)
    there.write_text("MINE = 1\n")

    with pytest.raises(FileExistsError):
        files.write(tmp_path, {"svc/parcels/a.py": "VALUE = 1\n", "svc/parcels/b.py": "VALUE = 2\n"})

    assert ("MINE = 1\n", [there]) == (there.read_text(), [*there.parent.iterdir()])


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A clone with three services more: a plain one, one with all there is and the longest names, and the example."""
    copy = Copy(tmp_path_factory.mktemp("clone"))
    for arguments in (("parcels",), (LONG, "--resource", "registered_direct_letter", "--with-events")):
        done = copy.run("deploy.cli", "new", "service", *arguments)
        assert 0 == done.returncode, done.stderr
        assert f"tests/unit/svc/{arguments[0]}" in done.stdout
    second_example.put(copy)
    return copy


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("buf", "lint"),
        ("buf", "format", "--diff", "--exit-code"),
        ("python", "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"),
        ("python", "-m", "gateway", "check", "--against", "protos/baseline.binpb"),
        ("python", "-m", "svc.chassis.migration_steps"),
        (
            *("python", "-m", "mypy", "-p", "svc.parcels", "-p", f"svc.{LONG}", "-p", f"worker.handlers.{LONG}"),
            *("-p", "svc.thumbnails", "-p", "worker.handlers.thumbnails"),
        ),
        ("python", "protos/py/generate.py", "--check"),
        ("python", "-m", "docs.site", "pages", "--check"),
        (
            *("python", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("tests/unit/svc/parcels", f"tests/unit/svc/{LONG}", f"tests/unit/worker/test_{LONG}_handler.py"),
            *("tests/unit/svc/thumbnails", "tests/unit/worker/test_thumbnails_handler.py"),
            *(
                "tests/contract/test_declared_errors.py",
                "tests/contract/test_events.py",
                "tests/contract/test_exports.py",
            ),
            *("tests/unit/worker/test_topology.py", "tests/unit/gateway/test_compiler.py"),
            *("tests/unit/worker/test_restored.py", "tests/unit/deploy/test_stack.py"),
            "tests/unit/svc/operations/test_wiring.py",
        ),
    ],
    ids=lambda command: command[2] if command[0] == "python" else " ".join(command[:2]),
)
def test_a_new_service_passes_what_the_others_pass(copy: Copy, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(copy.python.with_name(command[0])), *command[1:]],
        cwd=copy.root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_example_changes_nothing_but_what_was_made_for_it() -> None:
    made = files.rendered(Names("thumbnails", "image"), events=True)

    assert {"worker/handlers/thumbnails/picture.py"} == second_example.names() - set(made)


@pytest.mark.timeout(900)
def test_the_example_that_is_taken_out_again_leaves_nothing(tmp_path: Path) -> None:
    def tree() -> dict[str, bytes]:
        found = (path for path in copy.root.rglob("*") if path.is_file() and not left_out & {*path.parts})
        return {path.relative_to(copy.root).as_posix(): path.read_bytes() for path in found}

    left_out = {".venv", "build", "__pycache__"}
    copy = Copy(tmp_path / "clone")
    before = tree()
    second_example.put(copy)
    assert set(second_example.names()) <= set(tree())

    second_example.take_out(copy)

    after = tree()
    assert [] == sorted(set(before) ^ set(after))
    assert [] == [name for name, text in after.items() if text != before[name]]


def test_a_service_is_made_once(copy: Copy) -> None:
    done = copy.run("deploy.cli", "new", "service", "parcels")

    assert (2, "weft: parcels is there already; `weft status` shows what the mesh has\n") == (
        done.returncode,
        done.stderr,
    )


def _written(copy: Copy) -> list[Path]:
    return sorted(path for path in copy.root.rglob("*.p*") if "__pycache__" not in path.parts)


def test_a_resource_that_the_compiler_refuses_is_named_with_its_line_and_nothing_is_made(copy: Copy) -> None:
    before = _written(copy)

    done = copy.run("deploy.cli", "new", "service", "vaults", "--resource", "password", "--with-events")

    assert 1 == done.returncode
    assert "weft: protos/weft/vaults/v1/vaults.proto:" in done.stderr
    assert "weft: gateway check failed; nothing was made" in done.stderr
    assert before == _written(copy)


def test_no_file_that_was_there_is_another_now(copy: Copy) -> None:
    root = Path(__file__).resolve().parents[3]
    tracked = [path for path in copy.root.rglob("*") if path.is_file() and ".venv" not in path.parts]
    changed = {
        path.relative_to(copy.root).as_posix()
        for path in tracked
        if (root / path.relative_to(copy.root)).is_file()
        and (root / path.relative_to(copy.root)).read_bytes() != path.read_bytes()
        and not {"__pycache__", ".mypy_cache", ".ruff_cache"} & {*path.parts}
    }

    generated = {f"protos/clients/python/weft_client/gen/{name}.py" for name in ("errors", "services")}
    pages = {"docs/troubleshooting.md", "docs/reference/verbs.md"}
    assert {"protos/gen/contracts.binpb", *generated, *pages} <= changed
    exported = ("deploy/compose/", "deploy/k8s/")
    assert [] == [
        name for name in changed - {"protos/gen/contracts.binpb", *generated, *pages} if not name.startswith(exported)
    ]


def test_the_stack_of_a_mesh_has_it_with_database_worker_scopes_and_a_place_in_backups(copy: Copy) -> None:
    script = (
        "from deploy.backup import ORDER\n"
        "from deploy.supervisor import desired, stack\n"
        "from weft_protos import policy\n"
        f"assert 'parcels' in stack.SERVICES and desired.DEFAULT_SIZES['{LONG}-worker'] == 1, desired.DEFAULT_SIZES\n"
        f"assert {{'parcels', '{LONG}'}} <= {{*desired.LANED}} & {{*desired.AUTOSCALED}} & {{*ORDER}}\n"
        "assert ORDER.index('analytics') < ORDER.index('parcels') < ORDER.index('orders'), ORDER\n"
        "assert {'parcels.read', 'parcels.write'} <= policy.scopes()\n"
    )

    done = subprocess.run(
        [str(copy.python), "-c", script], cwd=copy.root, capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert sys.executable != str(copy.python)
