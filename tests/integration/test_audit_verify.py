"""`weft audit verify` against a real log: whole, and with one byte changed in every place where a byte can change."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.fakes.worker import event, order_placed
from tests.integration.worker_databases import Migrated, databases
from worker.handlers.audit import verify
from worker.handlers.audit.handler import AuditHandler
from worker.handlers.audit.log import Head, audit_log
from worker.handlers.audit.verify import Finding, Verdict

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 25
#: Looked at page by page, and one of them ends in the middle.
PAGE = 10


@pytest.fixture
def audit(migrated_url: Callable[[str, str], str]) -> Iterator[Migrated]:
    with databases(migrated_url) as make:
        made = make("audit")
        handler = AuditHandler(made.database)
        for start in range(0, RECORDS, 5):
            handler.handle([event(order_placed(f"orders/{start + n}")) for n in range(5)])
        yield made


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_PAGE", verify._PAGE.limit(PAGE))


def tamper(audit: Migrated, *statements: str) -> None:
    """Do what the trigger refuses, as somebody who owns the database can."""
    with audit.engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only"))
        for statement in statements:
            assert connection.execute(sa.text(statement)).rowcount
        connection.execute(sa.text("ALTER TABLE audit_log ENABLE TRIGGER audit_log_append_only"))


def walk(audit: Migrated, *noted: Head) -> Verdict:
    return verify.verify(audit.database, noted=noted)


def test_a_log_as_it_was_written_is_whole(audit: Migrated) -> None:
    seen: list[tuple[int, int]] = []

    verdict = verify.verify(audit.database, on_page=lambda done, records: seen.append((done, records)))

    assert (RECORDS, RECORDS, []) == (verdict.records, verdict.head.sequence, verdict.findings)
    assert [(10, 25), (20, 25), (25, 25)] == seen


FLIP = "set_byte({0}, {1}, get_byte({0}, {1}) # 1)"


CHANGES = {
    f"envelope = {FLIP.format('envelope', 'length(envelope) - 3')}": "its envelope",
    f"hash = {FLIP.format('hash', '31')}": "its hash",
    f"previous_hash = {FLIP.format('previous_hash', '0')}": "does not lead on",
    "type = 'weft.orders.v1.OrderPlacee'": "type of the record",
    "source = 'orderr'": "source of the record",
    "subject = 'adb'": "subject of the record",
    "actor = 'eve'": "actor of the record",
    "occur_time = occur_time + interval '1 microsecond'": "occur_time of the record",
    "event_id = gen_random_uuid()": "event_id of the record",
}


@pytest.mark.parametrize("sequence", [1, PAGE, PAGE + 1, RECORDS])
def test_one_flipped_byte_is_found_where_it_is(audit: Migrated, sequence: int) -> None:
    with audit.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE untouched AS SELECT * FROM audit_log"))
    columns = ", ".join(f"{column} = untouched.{column}" for column in audit_log.columns.keys())  # noqa: SIM118 - names
    for change, says in CHANGES.items():
        tamper(audit, f"UPDATE audit_log SET {change} WHERE sequence = {sequence}")

        findings = walk(audit).findings

        assert sequence == findings[0].sequence, change
        # A changed hash is not what the record after it leads on from, and the last one's is not what the head names.
        assert {one.sequence for one in findings} <= {sequence, sequence + 1}, change
        assert any(says in one.problem for one in findings), (change, findings)
        tamper(audit, f"UPDATE audit_log SET {columns} FROM untouched WHERE audit_log.sequence = untouched.sequence")
    assert [] == walk(audit).findings


def test_missing_records_are_named_and_the_rest_is_looked_at(audit: Migrated) -> None:
    tamper(
        audit,
        "DELETE FROM audit_log WHERE sequence IN (7, 8)",
        "UPDATE audit_log SET actor = 'eve' WHERE sequence = 20",
    )

    findings = walk(audit).findings

    assert [9, 20] == [one.sequence for one in findings]
    assert "the records 7 to 8 are missing before it" == findings[0].problem


def test_records_cut_off_the_end_show_against_the_head(audit: Migrated) -> None:
    tamper(audit, "DELETE FROM audit_log WHERE sequence > 22")

    assert [Finding(22, "", "the log ends here, and its head names record 25")] == walk(audit).findings


def test_a_log_that_was_rewritten_whole_is_found_by_a_head_that_was_noted(audit: Migrated) -> None:
    noted = walk(audit).head
    tamper(audit, "DELETE FROM audit_log WHERE sequence > 0")
    with audit.engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit_head SET sequence = 0, hash = :zeros"), {"zeros": bytes(32)})
        connection.execute(sa.text("DELETE FROM inbox"))
    AuditHandler(audit.database).handle([event(order_placed()) for _ in range(RECORDS)])

    assert [] == walk(audit).findings
    [found] = walk(audit, noted).findings
    assert (RECORDS, "it is not the record that was noted: the log was rewritten") == (found.sequence, found.problem)
    later = Head(RECORDS + 1, noted.hash)
    assert [Finding(RECORDS + 1, "", "it was noted as the last record, and is not there")] == walk(
        audit, later
    ).findings


def test_an_empty_log_is_whole(migrated_url: Callable[[str, str], str]) -> None:
    with databases(migrated_url) as make:
        verdict = walk(make("audit"))

    assert (0, Head(0, bytes(32)), []) == (verdict.records, verdict.head, verdict.findings)


def test_the_command_says_whether_it_is_whole(audit: Migrated, tmp_path: Path) -> None:
    secret = tmp_path / "database-audit.url"
    secret.write_text(audit.url)
    secret.chmod(0o600)

    def ask(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [sys.executable, "-m", "worker", "verify-audit", *arguments],
            cwd=ROOT,
            env={"WEFT_SECRETS": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )
        assert (0, "") == (done.returncode, done.stderr)
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    whole = ask()
    assert (True, RECORDS, []) == (whole["whole"], whole["records"], whole["findings"])
    tamper(audit, "UPDATE audit_log SET actor = 'eve' WHERE sequence = 12")
    assert (False, 12) == ((broken := ask("--noted", str(whole["head"])))["whole"], broken["findings"][0]["sequence"])  # type: ignore[index]
