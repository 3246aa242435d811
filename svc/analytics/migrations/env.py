"""Alembic's entry into the migrations of this database."""

from svc.chassis.alembic_env import run

run()
