"""Products, and the chassis' outbox and idempotency tables."""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create everything."""
    op.create_table(
        "products",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("display_name", sa.Text, nullable=False),
        # What the filter of ListProducts looks into: the name in the form of `model.search_text`.
        sa.Column("search_text", sa.Text, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("price_minor", sa.BigInteger, nullable=False),
        sa.Column("etag", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )
    op.create_index("products_price", "products", ["currency", "price_minor", "id"])
    tables.create_outbox(op)
    tables.create_idempotency(op)


def downgrade() -> None:
    """Drop everything that `upgrade` made."""
    for table in ("idempotency", "outbox", "products"):
        op.drop_table(table)
