"""The mailbox in a backup is the one of the moment at which it was frozen, and nobody waits for it."""

import sqlite3
from pathlib import Path

import pytest

from deploy.backup.bundle import BackupError
from deploy.backup.taking import Mailbox
from deploy.observability.mail_store import Delivery, MailReader, MailWriter


def untold(_name: str, _seconds: float, _size: int) -> None:
    return


def delivery(number: int) -> Delivery:
    raw = f"Message-ID: <{number}@weft.example>\r\nX-Weft-Kind: order-placed\r\n\r\nplaced\r\n".encode()
    return Delivery("weft@weft.example", ["a@weft.example"], raw)


def test_mail_that_comes_after_the_freeze_is_not_in_the_backup(tmp_path: Path) -> None:
    writer = MailWriter(tmp_path / "mail.sqlite")
    writer.add(delivery(1))

    with Mailbox(tmp_path / "mail.sqlite") as mailbox:
        mailbox.freeze()
        writer.add(delivery(2))  # whoever delivers does not wait
        mailbox.copy(tmp_path / "backup" / "mail.sqlite", untold)
    writer.close()

    assert 2 == MailReader(tmp_path / "mail.sqlite").count()["unique"]
    assert 1 == MailReader(tmp_path / "backup" / "mail.sqlite").count()["unique"]


def test_a_mesh_without_a_mailbox_has_none_in_its_backup(tmp_path: Path) -> None:
    with Mailbox(tmp_path / "mail.sqlite") as mailbox:
        mailbox.freeze()
        mailbox.copy(tmp_path / "backup" / "mail.sqlite", untold)

    assert not (tmp_path / "backup").exists()


def test_a_mailbox_that_is_damaged_is_named(tmp_path: Path) -> None:
    (tmp_path / "mail.sqlite").write_bytes(b"no database at all" * 100)

    with Mailbox(tmp_path / "mail.sqlite") as mailbox, pytest.raises(BackupError, match=r"mail\.sqlite") as said:
        mailbox.freeze()
    assert isinstance(said.value.__cause__, sqlite3.Error)
