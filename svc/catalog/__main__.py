"""`python -m svc.catalog serve|migrate|facts`: this service's command line."""

import sys
from pathlib import Path

from svc.catalog import facts, wiring
from svc.chassis.program import Program, run

PROGRAM = Program(
    service="catalog",
    summary="Products and their prices.",
    migrations=Path(__file__).parent / "migrations",
    build=wiring.build,
    facts=facts.collect,
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
