"""`python -m bench [NAME...]`: every bench, or those named, one after the other, and a table of what they claim."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench import report
from bench.report import Claim

#: In this order.
BENCHES: Final = (
    *("strict_json", "publish", "gateway_hop", "json_gateway", "overload", "gateway_overload"),
    *("control_plane", "control_plane_change", "slow_instance", "get_product_hit"),
    *("place_order", "place_order_gateway", "hot_products"),
    *("relay", "worker", "reports"),
    "console_truth",
)


def main() -> int:
    """Run them; the exit code: 0 all were measured, whatever the verdicts, 1 one could not be."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{report.__doc__}\n\nbenches: {', '.join(BENCHES)}",
        epilog="example: python -m bench gateway_hop --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all where none is named")
    report.add_common(parser)
    options = parser.parse_args()
    for name in options.names:
        if name not in BENCHES:
            parser.error(f"there is no bench {name!r}; there are {', '.join(BENCHES)}")
    report.log_to_stderr()
    measures = [_defaults(name) for name in options.names or BENCHES]
    return report.run(measures, as_json=options.json, folder=options.results)


def _defaults(name: str) -> Callable[[], Sequence[Claim]]:
    """A bench as it runs without arguments."""
    bench = importlib.import_module(f"bench.{name}")
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    return partial(bench.measure, parser.parse_args([]))


if __name__ == "__main__":
    sys.exit(main())
