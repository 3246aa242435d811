"""`python -m svc.analytics serve|migrate|facts`: this service's command line."""

import sys
from pathlib import Path

from svc.analytics import facts, wiring
from svc.chassis.program import Program, run

PROGRAM = Program(
    service="analytics",
    summary="What the shop sold.",
    migrations=Path(__file__).parent / "migrations",
    build=wiring.build,
    facts=facts.collect,
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
