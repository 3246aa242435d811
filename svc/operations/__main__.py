"""`python -m svc.operations serve`: this service's command line. It has no database, so there is nothing to migrate."""

import argparse
import sys

from svc.chassis import lifecycle, telemetry
from svc.chassis.config import Settings
from svc.operations import wiring


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m svc.operations",
        description="Shows the mesh to those who look after it.",
        epilog="example: python -m svc.operations serve",
    )
    parser.add_argument("command", choices=("serve",))
    parser.parse_args()
    telemetry.log_uncaught()
    return lifecycle.serve(Settings.from_environ(), service="operations", build=wiring.build)


if __name__ == "__main__":
    sys.exit(main())
