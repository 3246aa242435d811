"""How far a consumer has come with each ordering key: events of one key take effect in order.

Runs before the version that needs it is started; the version before goes on beside it, and knows nothing of it.
"""

from alembic import op

from svc.chassis import tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    tables.create_inbox_position(op)


def downgrade() -> None:
    """Drop it."""
    op.drop_table("inbox_position")
