"""How far the mails about each order have come: they go out in the order of its events.

Runs before the version that needs it is started; the version before goes on beside it, and knows nothing of it: its
mails have no place, and nobody waits for them.
"""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and columns for the place of a mail."""
    tables.create_inbox_position(op)
    op.add_column("email_delivery", sa.Column("stream", sa.Text, nullable=True))
    op.add_column("email_delivery", sa.Column("position", sa.BigInteger, nullable=True))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("email_delivery", "position")
    op.drop_column("email_delivery", "stream")
    op.drop_table("inbox_position")
