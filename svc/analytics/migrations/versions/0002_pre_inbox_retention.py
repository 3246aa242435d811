"""Inbox rows are deleted when their time is over: an index to find them by.

Runs before the version that needs it is started; the version before goes on beside it.
"""

from alembic import op

from svc.chassis import tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    tables.create_inbox_retention(op)


def downgrade() -> None:
    """Drop it."""
    tables.drop_index(op, "inbox_create_time")
