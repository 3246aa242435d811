"""Addresses, mails, and the inbox of the events that addresses come from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "recipients",
        sa.Column("user_name", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
    )
    op.create_table(
        "email_delivery",
        # The id of the event that the mail is about, and the first half of its Message-ID.
        sa.Column("message_id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recipient", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("sent_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('reserved', 'sent')", name="email_delivery_state_known"),
        sa.CheckConstraint("(state = 'sent') = (sent_time IS NOT NULL)", name="email_delivery_sent_has_its_time"),
    )
    tables.create_inbox(op)


def downgrade() -> None:
    """Back to nothing."""
    for name in ("inbox", "email_delivery", "recipients"):
        op.drop_table(name)
