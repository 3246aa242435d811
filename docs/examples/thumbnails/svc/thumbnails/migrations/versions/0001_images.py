"""Images, and the chassis' outbox and inbox."""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "images",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        # What was sent in: there until the image is settled.
        sa.Column("content", sa.LargeBinary, nullable=True),
        # What was made of it.
        sa.Column("thumbnail", sa.LargeBinary, nullable=True),
        sa.Column("width", sa.Integer, nullable=True),
        sa.Column("height", sa.Integer, nullable=True),
    )
    tables.create_inbox(op)
    tables.create_inbox_retention(op)
    tables.create_inbox_position(op)
    tables.create_outbox(op)
    tables.create_outbox_retention(op)


def downgrade() -> None:
    """Drop everything that `upgrade` made."""
    tables.drop_outbox_retention(op)
    for table in ("outbox", "inbox_position", "inbox", "images"):
        op.drop_table(table)
