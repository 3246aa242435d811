"""That what a transaction has read is replicated before it is told: for answers that stand for somebody else's COMMIT.

A COMMIT that waits for the synchronous standby is seen by nobody. But a server that crashes meanwhile shows it when it
is back, whether the standby has it or not; and whoever was asked the same again would acknowledge by a mere read what
is lost with that server. A transaction that writes something waits for the standby, and the log has one order.
"""

from typing import Final

from sqlalchemy import Connection

# A message to nobody: the least that counts as a write, in a READ ONLY transaction, too.
_WRITE: Final = (
    "SELECT CASE WHEN current_setting('synchronous_standby_names') <> '' "
    "THEN pg_logical_emit_message(true, 'weft', 'seen') END"
)


def confirm(tx: Connection) -> None:
    """Have the transaction's COMMIT wait for the standby, where commits do: until it has all that was read here.

    On CockroachDB nothing is visible before it is replicated.
    """
    if tx.dialect.name == "postgresql":
        tx.exec_driver_sql(_WRITE)
