"""Dead letters on a real broker: looked at without moving, sent back once, and safe to send back again."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from svc.chassis import outbox
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from tests.fakes.worker import FakeHandler, delivery, event, garbage, order_cancelled, order_placed
from tests.waiting import eventually
from worker import inbox, rehearsal, wiring
from worker.amqp.consumer import Consumer
from worker.amqp.deadletters import DeadLetters
from worker.amqp.depth import Depths
from worker.amqp.ladder import Ladder
from worker.amqp.publisher import Publisher
from worker.amqp.topology import WorkQueue, work_queue
from worker.config import OUTBOXES
from worker.deadletter import Choice, Letter
from worker.delivery import DeadLetter, Delivery
from worker.errors import Outage, Permanent
from worker.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
MIGRATIONS = {**wiring.MIGRATIONS, **{name: ROOT / "svc" / name / "migrations" for name in OUTBOXES}}
EMAIL: WorkQueue = work_queue("email")


class Desk:
    """A broker with dead letters, and somebody who looks after them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.publisher = Publisher(url, name="test")
        self.publisher.start()
        assert self.publisher.ready(60)

    def close(self) -> None:
        self.publisher.stop(10)

    def park(self, *deliveries: Delivery, reason: str = "no such address", worker: str = "email") -> list[str]:
        for one in deliveries:
            Ladder(self.publisher, work_queue(worker)).move(one, DeadLetter(reason))
        return [str(one.message_id) for one in deliveries]

    def lying(self) -> list[str]:
        with DeadLetters(self.url, EMAIL) as letters:
            return [letter.id for letter in letters.look()]

    def replay(self, choice: Choice | None = None, *, most: int = 10**6) -> list[str]:
        with DeadLetters(self.url, EMAIL) as letters:
            return letters.replay(choice or Choice(), most=most)

    def depth(self, queue: str) -> int:
        depths = Depths(self.url, [queue])
        try:
            return depths.read()[queue]
        finally:
            depths.close()


@pytest.fixture
def desk(amqp_url: str) -> Iterator[Desk]:
    opened = Desk(amqp_url)
    yield opened
    opened.close()


def test_looking_takes_nothing(desk: Desk) -> None:
    ids = desk.park(*(delivery(order_placed(f"orders/{n}")) for n in range(50)))

    for _ in range(3):
        eventually(lambda: sorted(ids) == sorted(desk.lying()))
    eventually(lambda: desk.depth("weft.email.dead") == 50)


def test_the_chosen_ones_go_back_with_their_attempts_forgotten_and_the_rest_stays(desk: Desk) -> None:
    bounced = desk.park(delivery(order_placed()), delivery(order_cancelled()))
    other = desk.park(delivery(order_placed()), reason="database schema")

    assert bounced == desk.replay(Choice(reason="ADDRESS"))

    eventually(lambda: other == desk.lying())
    eventually(lambda: desk.depth("weft.email") == 2)
    handler, consumer = FakeHandler(), Consumer(desk.url, queue="weft.email", name="test")
    consumer.start()
    taken: list[Delivery] = []
    eventually(lambda: taken.extend(consumer.take(10, timeout_s=1)) or len(taken) == 2)
    consumer.stop(10)
    assert [] == handler.batches
    assert [(one, 1, False) for one in bounced] == [
        (one.message_id, one.attempt, "x-weft-reason" in one.headers) for one in taken
    ]


def test_no_more_go_back_than_were_asked_for(desk: Desk) -> None:
    ids = desk.park(*(delivery(order_placed()) for _ in range(5)))

    assert ids[:2] == desk.replay(most=2)
    eventually(lambda: sorted(ids[2:]) == sorted(desk.lying()))


def test_what_fails_again_meanwhile_is_not_sent_back_in_the_same_run(desk: Desk) -> None:
    ids = desk.park(*(delivery(order_placed()) for _ in range(3)))
    handler = FakeHandler(errors={one: Permanent("never") for one in ids})
    consumer = Consumer(desk.url, queue="weft.email", name="test")
    runner = Runner(consumer, Ladder(desk.publisher, EMAIL), handler, queue="weft.email", batch_max=1)
    consumer.start()
    runner.start()
    try:
        assert ids == desk.replay()
        eventually(lambda: desk.depth("weft.email.dead") == 3)
    finally:
        runner.stop(10)
        consumer.stop(10)

    assert [[one] for one in ids] == handler.batches
    eventually(lambda: sorted(ids) == sorted(desk.lying()))


def test_a_queue_that_nobody_has_declared_yet_is_said_to_be_missing(amqp_url: str) -> None:
    with DeadLetters(amqp_url, EMAIL) as letters, pytest.raises(Outage, match=r"weft\.email\.dead"):
        list(letters.look())


def run(secrets: Path, *arguments: str) -> tuple[int, Any, str]:
    """What `python -m worker dlq` says."""
    done = subprocess.run(
        [sys.executable, "-m", "worker", "dlq", *arguments],
        cwd=ROOT,
        env={"WEFT_SECRETS": str(secrets), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_the_command_lists_shows_and_sends_back(desk: Desk, tmp_path: Path) -> None:
    secret = tmp_path / "amqp.url"
    secret.write_text(desk.url)
    secret.chmod(0o600)
    [placed] = desk.park(delivery(order_placed()))
    [broken] = desk.park(garbage(), reason="body is not an envelope", worker="audit")

    code, said, _ = run(tmp_path, "list")
    assert (0, 2) == (code, said["chosen"])
    assert [("weft.audit", broken), ("weft.email", placed)] == [(one["queue"], one["id"]) for one in said["letters"]]
    eventually(lambda: desk.depth("weft.email.dead") + desk.depth("weft.audit.dead") == 2)
    code, said, _ = run(tmp_path, "list", "--limit", "1")
    assert (0, 2, 2) == (code, said["chosen"], len(said["letters"]))  # one of each queue

    # What was looked at a moment ago lies there again.
    eventually(lambda: desk.depth("weft.email.dead") == 1)
    code, said, _ = run(tmp_path, "show", placed)
    assert (0, 1, "orders/1") == (code, said["letters"][0]["copies"], said["letters"][0]["event"]["payload"]["order"])
    assert {"letters": []} == run(tmp_path, "show", "nobody")[1]

    eventually(lambda: desk.depth("weft.email.dead") == 1)
    code, said, _ = run(tmp_path, "replay", "--", placed, "nobody")
    assert (0, {"weft.email": [placed]}, ["nobody"]) == (code, said["replayed"], said["missing"])
    assert {"replayed": {}, "missing": [placed]} == run(tmp_path, "replay", placed)[1]
    eventually(lambda: desk.depth("weft.audit.dead") == 1)
    assert {"replayed": {"weft.audit": [broken]}, "missing": []} == run(tmp_path, "replay", "--reason=ENVELOPE")[1]


def test_a_rehearsal_puts_aside_a_copy_of_what_was_handled(
    desk: Desk, tmp_path: Path, migrated_url: Callable[[str, str], str]
) -> None:
    urls = {name: migrated_url(name, str(MIGRATIONS[name])) for name in (*OUTBOXES, "email")}
    for name, url in {**{f"database-{name}": url for name, url in urls.items()}, "amqp": desk.url}.items():
        (tmp_path / f"{name}.url").write_text(url)
        (tmp_path / f"{name}.url").chmod(0o600)
    handled, late = (outbox.event(order_placed(), source="orders", call=None) for _ in range(2))

    def publish(tx: Transaction) -> None:
        outbox.append(tx, [handled, late])
        tx.exec_driver_sql("UPDATE outbox SET publish_time = now()")

    _write(urls["orders"], publish)

    assert (0, {}) == run(tmp_path, "rehearse", "email")[:2]
    _write(urls["email"], lambda tx: inbox.claim(tx, "email", [handled.id]))
    code, said, _ = run(tmp_path, "rehearse", "email")

    assert (0, {"queue": "weft.email", "id": handled.id, "type": handled.type}) == (code, said)
    found: list[Letter] = []

    def looked() -> bool:
        with DeadLetters(desk.url, EMAIL) as letters:
            found[:] = letters.look()
        return len(found) == 1

    eventually(looked)
    assert (handled.envelope, rehearsal.REASON) == (found[0].delivery.body, found[0].reason)
    eventually(lambda: desk.depth("weft.email.dead") == 1)
    assert (0, {}) == run(tmp_path, "rehearse", "email")[:2], "what lies there is not put there once more"


def _write(url: str, work: Callable[[Transaction], object]) -> None:
    database = Database(url, pool_size=1, name="test")
    try:
        database.serializable(work, deadline=Deadline.after(30))
    finally:
        database.close()


def test_a_broker_that_is_away_is_one_line(tmp_path: Path) -> None:
    secret = tmp_path / "amqp.url"
    secret.write_text("amqp://weft:weft@127.0.0.1:1/")
    secret.chmod(0o600)

    code, said, error = run(tmp_path, "list")

    assert (1, None, 1) == (code, said, error.count("\n"))
    assert error.startswith("weft: the broker does not answer")


def test_an_event_of_a_letter_is_the_one_that_was_sent(desk: Desk) -> None:
    sold = event(order_placed())
    desk.park(Delivery(queue="weft.email", body=sold.envelope, message_id=sold.id, type=sold.type))

    with DeadLetters(desk.url, EMAIL) as letters:
        [letter] = letters.look()

    assert sold.envelope == letter.delivery.body
