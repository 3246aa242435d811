"""Users have a state and a time before which their tokens are worth nothing; failed sign-ins are counted.

Runs before the version that needs it is started: the version before goes on beside it, and knows nothing of the new
columns.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns, the indexes that the list of revocations is read by, and the table of failures."""
    op.add_column("users", sa.Column("state", sa.Text, nullable=False, server_default="active"))
    op.add_column("users", sa.Column("tokens_from", _TIME))
    op.create_check_constraint("users_state_known", "users", "state IN ('active', 'suspended')")
    op.create_index("users_tokens_from", "users", ["tokens_from"], postgresql_where=sa.text("tokens_from IS NOT NULL"))
    op.create_index(
        "sessions_revoke_time", "sessions", ["revoke_time"], postgresql_where=sa.text("revoke_time IS NOT NULL")
    )
    op.create_table(
        "sign_in_failures",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("expire_time", _TIME, nullable=False),
        sa.Column("pause_until", _TIME),
    )
    op.create_index("sign_in_failures_expire_time", "sign_in_failures", ["expire_time"])


def downgrade() -> None:
    """Undo it; suspended users are active again."""
    op.drop_table("sign_in_failures")
    op.drop_index("sessions_revoke_time", "sessions")
    op.drop_index("users_tokens_from", "users")
    op.drop_constraint("users_state_known", "users", type_="check")
    op.drop_column("users", "tokens_from")
    op.drop_column("users", "state")
