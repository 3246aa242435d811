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
        sa.Column("user_name", sa.Text, nullable=False),
        # The address, once it is known.
        sa.Column("recipient", sa.Text, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        # The event, where the mail had to wait for the address; until it is sent.
        sa.Column("envelope", sa.LargeBinary, nullable=True),
        sa.Column("occur_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("sent_time", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'reserved', 'sent', 'refused')", name="email_delivery_state_known"),
        sa.CheckConstraint("(state = 'sent') = (sent_time IS NOT NULL)", name="email_delivery_sent_has_its_time"),
        sa.CheckConstraint(
            "state IN ('waiting', 'refused') OR recipient IS NOT NULL", name="email_delivery_goes_to_somebody"
        ),
        sa.CheckConstraint("state <> 'waiting' OR envelope IS NOT NULL", name="email_delivery_waits_with_its_event"),
        sa.CheckConstraint("state <> 'sent' OR envelope IS NULL", name="email_delivery_forgets_its_event"),
    )
    op.create_index(
        "email_delivery_kept",
        "email_delivery",
        ["user_name"],
        postgresql_where=sa.text("envelope IS NOT NULL"),
    )
    tables.create_inbox(op)


def downgrade() -> None:
    """Back to nothing."""
    for name in ("inbox", "email_delivery", "recipients"):
        op.drop_table(name)
