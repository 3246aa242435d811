"""The command line against a running mesh: what machines read of it, and what it says when something is wrong."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.cli.replay import lines, plan, synthetic
from deploy.cli.replay.lines import COLUMNS
from deploy.supervisor.mesh import Mesh
from tests.integration import weft_command
from tests.integration.weft_command import weft_here

pytestmark = pytest.mark.calls

Weft = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def weft(mesh: Mesh) -> Weft:
    return lambda *arguments: weft_command.weft(mesh.secrets.parent, *arguments)


@pytest.fixture
def said(mesh: Mesh) -> Weft:
    """The same without a process of its own."""
    return lambda *arguments, data=None: weft_here(data or mesh.secrets.parent, *arguments)


def claims(token: str) -> dict[str, object]:
    # Read, not verified: the gateway's tests do that.
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


def test_status_is_one_object_with_what_others_rely_on(weft: Weft) -> None:
    answer = weft("status", "--json")

    status = json.loads(answer.stdout)
    assert (0, "") == (answer.returncode, answer.stderr)
    assert status["gateway"].startswith("http://127.0.0.1:")
    assert {"console", "traces", "metrics", "alerts", "mail", "queue"} == set(status["urls"])
    orders = next(process for process in status["processes"] if process["name"] == "orders-1")
    assert {"name", "kind", "service", "pid", "address", "state", "restarts", "since", "role"} <= set(orders)
    assert ("service", "orders", "ready") == (orders["kind"], orders["service"], orders["state"])


def test_a_token_has_the_scopes_that_were_asked_for(weft: Weft) -> None:
    answer = weft("token", "--scope", "catalog.read", "--scope", "orders.read")

    assert 0 == answer.returncode
    assert {"catalog.read", "orders.read"} == set(str(claims(answer.stdout.strip())["scope"]).split())


def test_a_token_for_a_user_names_the_operator_who_acts(weft: Weft) -> None:
    assert 0 == weft("demo", "--invoices", "1", "--seed", "5", "--json").returncode
    listed = plan.make(lines.parse(synthetic.day(invoices=1, seed=5), name="demo"))
    user = f"customer-{next(iter(listed.customers))}"

    answer = json.loads(weft("token", "--user", user, "--json").stdout)

    found = claims(answer["access_token"])
    assert (f"users/{user}", user, {"sub": "operator"}) == (answer["user"], found["sub"], found["act"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["token", "--scope", "orders.fly"], 2, "no contract names the scope 'orders.fly'; known are analytics.read"),
        (["token", "--user", "nobody-at-all"], 1, "NOT_FOUND"),
        (["replay", "/nonexistent.csv"], 2, "/nonexistent.csv: cannot be read"),
        (["replay"], 2, "Missing argument 'file'"),
        (["replay", "x.csv", "--limit", "many"], 2, "'--limit'"),
        (["kill", "nobody"], 1, "nobody"),
        (["logs", "nobody"], 2, "nobody"),
        (["fly"], 2, "fly"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(said: Weft, arguments: list[str], code: int, says: str) -> None:
    answer = said(*arguments)

    assert (code, "", 1) == (answer.returncode, answer.stdout, answer.stderr.count("\n"))
    assert says in answer.stderr


def test_a_file_that_is_no_order_file_is_refused_before_anything_is_sent(said: Weft, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text("a,b\n1,2\n")

    answer = said("replay", str(path))

    assert 2 == answer.returncode
    assert f"must name {', '.join(COLUMNS)}" in answer.stderr


def test_without_a_mesh_it_says_how_to_start_one(said: Weft, tmp_path: Path) -> None:
    answer = said("status", data=tmp_path / "none")

    assert (3, "") == (answer.returncode, answer.stdout)
    assert "weft up" in answer.stderr


def test_a_replayed_file_ends_even_and_a_second_run_changes_nothing(weft: Weft, tmp_path: Path) -> None:
    path = tmp_path / "day.csv"
    path.write_bytes(synthetic.day(invoices=12, products=8, customers=4, seed=31))

    first = json.loads(weft("replay", str(path), "--json").stdout)
    again = json.loads(weft("replay", str(path), "--json").stdout)

    assert (True, True) == (first["even"], again["even"])
    assert first["steps"] == again["steps"]
    assert first["revenue"] == again["revenue"]
    orders = [row["right"] for result in (first, again) for row in result["balance"] if row["name"] == "orders stored"]
    assert orders[0] == orders[1]
