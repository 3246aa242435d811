"""`python -m svc.orders serve|migrate|facts`: this service's command line."""

import sys
from pathlib import Path

from svc.chassis.program import Program, run
from svc.orders import facts, wiring

PROGRAM = Program(
    service="orders",
    summary="Stock and orders.",
    migrations=Path(__file__).parent / "migrations",
    build=wiring.build,
    facts=facts.collect,
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
