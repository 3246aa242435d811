"""Stock, its movements, orders and their items, beside the idempotency records and the outbox they commit with.

No foreign keys: under SERIALIZABLE the check of one reads the parent's index pages, and orders that have nothing in
common abort each other. Items and their order are written by one statement instead. Random UUIDs as keys spread
inserts over the index for the same reason.
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
    _create_stock()
    _create_orders()
    tables.create_idempotency(op)
    tables.create_outbox(op)


def downgrade() -> None:
    """Drop the tables, and what they hold."""
    for name in ("outbox", "idempotency", "order_items", "orders", "stock_movement", "stock"):
        op.drop_table(name)


def _create_stock() -> None:
    op.create_table(
        "stock",
        sa.Column("product_id", sa.Text, primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        # The last line of defence: whatever a statement believes, no piece is sold twice.
        sa.CheckConstraint("quantity >= 0", name="stock_not_negative"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Room for the next version of a row on its own page: the index stays untouched (a heap-only update), and
        # with it the index pages that concurrent serializable transactions have read.
        op.execute("ALTER TABLE stock SET (fillfactor = 50)")
    op.create_table(
        "stock_movement",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("product_id", sa.Text, nullable=False),
        sa.Column("difference", sa.BigInteger, nullable=False),
        sa.Column("request_id", sa.Uuid, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
    )


def _create_orders() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        # Price of what still stands.
        sa.Column("total_minor", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("update_time", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('placed', 'partially_cancelled', 'cancelled')", name="orders_state_known"),
        sa.CheckConstraint("total_minor >= 0", name="orders_total_not_negative"),
    )
    op.create_index("orders_by_user", "orders", ["user_id", sa.text("create_time DESC"), sa.text("id DESC")])
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("product_id", sa.Text, nullable=False),
        # Where the item stood in the request.
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("cancelled_quantity", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("unit_price_minor", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("order_id", "product_id"),
        sa.CheckConstraint("quantity > 0", name="order_items_quantity_positive"),
        sa.CheckConstraint("cancelled_quantity BETWEEN 0 AND quantity", name="order_items_cancelled_within_quantity"),
    )
