"""The body of every `migrations/env.py`: Alembic runs that file, and it calls `run()`.

The connection comes from `migrate.upgrade`, which opened it and holds the lock; there is no offline mode.
"""

from alembic import context


def run() -> None:
    """Run the wanted migrations on the connection that `migrate.upgrade` put into the configuration."""
    context.configure(
        connection=context.config.attributes["connection"],
        # Each migration commits with its own version: an interrupted run goes on where it stopped.
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
