"""The roll-up and what its worker needs to feed it exactly once.

The service owns this database and migrates it; the analytics worker writes `inbox` and `sales_daily` in one
transaction. `outbox` is there although nothing writes to it yet, so that facts and relay treat every service alike.
"""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "sales_daily",
        # The UTC day of the event: orders count on the day they were placed, cancellations on the day they were made.
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("orders", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("cancellations", sa.BigInteger, nullable=False, server_default="0"),
        # Pieces and revenue may be negative: more can be taken back on a day than was ordered on it.
        sa.Column("pieces", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("revenue_minor", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("day", "currency"),
        sa.CheckConstraint("orders >= 0", name="sales_daily_orders_not_negative"),
        sa.CheckConstraint("cancellations >= 0", name="sales_daily_cancellations_not_negative"),
    )
    tables.create_inbox(op)
    tables.create_outbox(op)


def downgrade() -> None:
    """Drop the tables, and what they hold."""
    op.drop_table("outbox")
    op.drop_table("inbox")
    op.drop_table("sales_daily")
