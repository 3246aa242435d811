"""Published events are deleted when the retention that their contract states is over, and stay counted."""

from alembic import op

from svc.chassis import tables

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """From 0002."""
    tables.create_outbox_retention(op)


def downgrade() -> None:
    """Back to 0002."""
    tables.drop_outbox_retention(op)
