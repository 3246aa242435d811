"""Users, sessions with their refresh tokens, signing keys, and the chassis' outbox and idempotency tables."""

import sqlalchemy as sa
from alembic import op

from svc.chassis import tables

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_TEXTS = sa.ARRAY(sa.Text)


def upgrade() -> None:
    """Create everything. No foreign keys: see svc/identity/store.py."""
    op.create_table(
        "users",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("email_key", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("scopes", _TEXTS, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("update_time", _TIME, nullable=False),
    )
    op.create_index("users_email_key", "users", ["email_key"], unique=True)
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("actor", sa.Text),
        sa.Column("requested_scopes", _TEXTS, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("expire_time", _TIME, nullable=False),
        sa.Column("revoke_time", _TIME),
    )
    op.create_index("sessions_expire_time", "sessions", ["expire_time"])
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("session_id", sa.Text, nullable=False),
        sa.Column("use_time", _TIME),
    )
    op.create_index("refresh_tokens_session_id", "refresh_tokens", ["session_id"])
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("public_jwk", sa.Text, nullable=False),
        sa.Column("activate_time", _TIME, nullable=False),
    )
    tables.create_outbox(op)
    tables.create_idempotency(op)


def downgrade() -> None:
    """Drop everything that `upgrade` made."""
    for table in ("idempotency", "outbox", "signing_keys", "refresh_tokens", "sessions", "users"):
        op.drop_table(table)
