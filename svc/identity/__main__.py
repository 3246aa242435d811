"""`python -m svc.identity serve|migrate|facts|rotate-keys`: this service's command line."""

import sys
from pathlib import Path

from svc.chassis.program import Program, run
from svc.identity import facts, wiring
from svc.identity.keys import SealError

PROGRAM = Program(
    service="identity",
    summary="Users, sessions and their rights.",
    migrations=Path(__file__).parent / "migrations",
    build=wiring.build,
    facts=facts.collect,
    commands={"rotate-keys": lambda database, secrets: {"kid": wiring.rotate_keys(database, secrets)}},
    failures=(SealError,),
)

if __name__ == "__main__":
    sys.exit(run(PROGRAM))
