"""The manifest of the archive, reports, the stages they are made in, and their rows.

Runs before the version that needs it is started: the version before goes on beside it, and knows nothing of the new
tables. The archive worker writes `archive_files`, the reports worker everything about a report but its beginning and
its cancellation. No foreign keys: their checks would cost serializable transactions false conflicts.
"""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    _create_manifest()
    _create_reports()
    tables.create_idempotency(op)
    tables.create_idempotency_retention(op)


def downgrade() -> None:
    """Drop the tables, and what they hold."""
    for name in ("idempotency", "report_rows", "report_stages", "reports", "archive_files"):
        op.drop_table(name)


def _create_manifest() -> None:
    op.create_table(
        "archive_files",
        sa.Column("file_id", sa.Uuid, primary_key=True),
        # The UTC day and the type of all events in it.
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("create_time", _TIME, nullable=False, server_default=sa.func.now()),
        # Since when it counts no more: another one holds its events, or they are too old to be kept.
        sa.Column("remove_time", _TIME),
        sa.CheckConstraint("events > 0", name="archive_files_not_empty"),
    )
    op.create_index("archive_files_by_type", "archive_files", ["type", "day"])


def _create_reports() -> None:
    op.create_table(
        "reports",
        sa.Column("report_id", sa.Uuid, primary_key=True),
        # Subject of whoever asked.
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("start_day", sa.Date),
        sa.Column("end_day", sa.Date),
        sa.Column("row_limit", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("start_time", _TIME),
        sa.Column("end_time", _TIME),
        # Times a worker took it: what fences off the one that had it before.
        sa.Column("attempts", sa.BigInteger, nullable=False, server_default="0"),
        # Until when it is that worker's; by the database's clock.
        sa.Column("lease_until", _TIME),
        sa.Column("stages", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("stages_done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("events", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("events_read", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("row_count", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("truncated", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("failure", sa.Text, nullable=False, server_default=""),
        sa.CheckConstraint(
            "state IN ('pending', 'queued', 'running', 'succeeded', 'failed', 'cancelled')", name="reports_state_known"
        ),
    )
    op.create_index("reports_by_owner", "reports", ["owner", sa.text("create_time DESC"), sa.text("report_id DESC")])
    op.create_index(
        "reports_to_make", "reports", ["create_time"], postgresql_where=sa.text("state IN ('queued', 'running')")
    )
    op.create_table(
        "report_stages",
        sa.Column("report_id", sa.Uuid, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        # Type of the events in its files, which no one may remove before it is done.
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("files", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        # Name of the file with what came out; null while it is to be done.
        sa.Column("outcome", sa.Text),
        sa.PrimaryKeyConstraint("report_id", "stage"),
    )
    op.create_table(
        "report_rows",
        sa.Column("report_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        # Serialized `weft.analytics.v1.ReportRow`.
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("report_id", "position"),
    )
