"""`weft contracts` without a mesh: what a changed descriptor set shows, and what breaks callers of the released one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from deploy.cli import sources
from deploy.cli.__main__ import run
from deploy.cli.sources import CommandFailedError
from deploy.supervisor.config import PROJECT
from weft.options.v1 import policy_pb2

ORDERS = "weft/orders/v1/orders.proto"
PLAN = ("contracts", "plan", "--against", str(PROJECT / sources.GENERATED))
Changed = Callable[[Callable[[FileDescriptorProto], object]], str]


@pytest.fixture(autouse=True)
def data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory on which nothing runs."""
    monkeypatch.setenv("WEFT_DATA", str(folder))
    return folder


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """A descriptor set whose orders.proto has been changed."""

    def write(change: Callable[[FileDescriptorProto], object]) -> str:
        files = FileDescriptorSet.FromString((PROJECT / sources.GENERATED).read_bytes())
        change(next(file for file in files.file if file.name == ORDERS))
        path = tmp_path / "changed.binpb"
        path.write_bytes(files.SerializeToString())
        return str(path)

    return write


def demand_another_scope(orders: FileDescriptorProto) -> None:
    place_order = orders.service[0].method[0]
    place_order.options.Extensions[policy_pb2.policy].scopes[:] = ["orders.admin"]


def delete_a_field(orders: FileDescriptorProto) -> None:
    order = next(message for message in orders.message_type if message.name == "Order")
    # One that was released.
    order.field.remove(next(field for field in order.field if field.name == "revision"))


def test_the_contracts_at_hand_keep_what_was_released(capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["contracts", "check"])
    said = capsys.readouterr()

    assert ("the contracts keep every rule, and what the released ones promised\n", "") == (said.out, said.err)


def test_a_changed_policy_is_shown_and_is_no_failure(changed: Changed, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run([*PLAN, "--descriptors", changed(demand_another_scope)])
    lines = capsys.readouterr().out.splitlines()

    assert "  ~ weft.orders.v1.OrderService/PlaceOrder" in lines
    assert "1 method changed" in lines[-1]
    assert 0 == run([*PLAN, "--descriptors", changed(demand_another_scope), "--json"])
    (change,) = json.loads(capsys.readouterr().out)["changes"]
    assert ["any of orders.write"] == change["differences"][0]["before"]


def test_a_plan_against_a_file_turns_around(changed: Changed, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run(["contracts", "plan", "--against", changed(demand_another_scope)])

    assert "any of orders.admin -> any of orders.write" in capsys.readouterr().out


def test_changes_of_policy_and_of_messages_break_callers_at_once(
    changed: Changed, capsys: pytest.CaptureFixture[str]
) -> None:
    def both(orders: FileDescriptorProto) -> None:
        demand_another_scope(orders)
        delete_a_field(orders)

    path = changed(both)

    assert 1 == run(["contracts", "check", "--descriptors", path])
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert ("", 3, "weft: the contracts have 2 violations") == (said.out, len(lines), lines[-1])
    assert all(line.startswith(f"protos/{ORDERS}:") for line in lines[:-1])
    assert any("PlaceOrder demands orders.admin and took orders.write before" in line for line in lines)
    assert any('field "8" with name "revision"' in line for line in lines)

    assert 1 == run(["contracts", "check", "--descriptors", path, "--json"])
    violations = json.loads(capsys.readouterr().out)["violations"]
    assert [{"file", "line", "message", "fix"}] * 2 == [set(found) for found in violations]


def test_a_file_that_is_no_descriptor_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\xff\xff")

    assert 2 == run(["contracts", "plan", "--descriptors", str(garbage)])
    assert "weft: the descriptor set is not a serialized FileDescriptorSet\n" == capsys.readouterr().err


def test_a_command_that_fails_says_its_lines_and_its_code() -> None:
    with pytest.raises(CommandFailedError) as failed:
        sources.python("gateway", "explain", "Nothing")

    assert (2, 1) == (failed.value.code, len(failed.value.lines))
    assert failed.value.lines[0].startswith("no contract has a method 'Nothing'")


def test_the_contracts_are_built_from_their_sources(tmp_path: Path) -> None:
    assert sources.is_generated(sources.built(tmp_path, None))
