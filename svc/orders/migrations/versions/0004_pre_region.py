"""Orders say which country they go to.

Runs before the version that needs it is started: the version before goes on beside it, and knows nothing of the new
column.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; orders of before do not say it."""
    op.add_column("orders", sa.Column("region_code", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the column, and what it holds."""
    op.drop_column("orders", "region_code")
