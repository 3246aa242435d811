"""CPU of the gateway hop for a gRPC call with a valid token: the compiled gateway against one written by hand with the
same filters, and against a bare Envoy.

They run side by side over one backend and are put under load in turns, in many short rounds, of which the cheapest
count. All of them are started several times: how a process lies in memory makes it up to a tenth dearer or cheaper for
as long as it lives. `--profile` builds the compiled chain up link by link instead and prints what each one adds.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import grpc

from bench import backend as answers
from bench import ours, report, written
from bench.load import Shape, Target, cost
from bench.measure import in_turns, middle, ratios, summary, undisturbed
from bench.report import BenchError, Claim
from bench.stand import HOST, Backend, Caller, Stand
from gateway.envoy import names
from gateway.envoy.filters import CHAIN
from weft.catalog.v1.catalog_pb2 import GetProductRequest, Product

METHOD: Final = "/weft.catalog.v1.CatalogService/GetProduct"
SCOPE: Final = "catalog.read"
#: Rounds of each start before those that count: a gateway that fills caches and heaps is dearer meanwhile.
SETTLING: Final = 1
#: CPU us per request of each side, round by round.
Samples = Mapping[str, list[float]]
REQUEST: Final = GetProductRequest(name=answers.product().name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=report.whole, default=600, help="requests in each round (default 600)")
    parser.add_argument("--rounds", type=report.whole, default=8, help="rounds of each side and start (default 8)")
    parser.add_argument("--starts", type=report.whole, default=8, help="how often all are started (default 8)")
    parser.add_argument("--profile", action="store_true", help="print what each link of the chain costs, claim nothing")


def measure(options: argparse.Namespace) -> list[Claim]:
    if options.profile:
        _profile(options)
        return []
    starts = [_start(options) for _ in range(options.starts)]
    samples = {name: _pooled(starts, name) for name in starts[0]}
    unit = {"unit": "CPU us per request"}
    return [
        Claim(
            "gateway_hop_handwritten",
            "gRPC GetProduct through the compiled gateway, against an Envoy written by hand with the same filters",
            _figure(starts, "handwritten"),
            floor=1.15,
            goal=1.0,
            sides=unit
            | _doubts(starts, "handwritten")
            | {
                "ours": summary(samples["ours"]),
                "theirs": summary(samples["handwritten"]),
                "theirs_without_scripts": summary(samples["without_scripts"]),
            },
        ),
        Claim(
            "gateway_hop_bare",
            "gRPC GetProduct through the compiled gateway, against a bare Envoy that only routes",
            _figure(starts, "bare"),
            floor=1.5,
            goal=1.25,
            sides=unit
            | _doubts(starts, "bare")
            | {"ours": summary(samples["ours"]), "theirs": summary(samples["bare"])},
        ),
    ]


def _pooled(starts: Sequence[Samples], name: str) -> list[float]:
    return [each for found in starts for each in found[name]]


def _figure(starts: Sequence[Samples], theirs: str) -> float:
    return report.ratio(undisturbed(_pooled(starts, "ours")), undisturbed(_pooled(starts, theirs)))


def _doubts(starts: Sequence[Samples], theirs: str) -> dict[str, Any]:
    """What else the figure could have been: without any one of the starts, and where every round counts."""
    others = [[each for each in starts if each is not one] for one in starts]
    without = sorted(_figure(kept, theirs) for kept in others if kept)
    every = middle(ratios(_pooled(starts, "ours"), _pooled(starts, theirs)))
    return {"without one start": without, "all rounds": every.as_object()}


def _start(options: argparse.Namespace) -> Samples:
    """CPU us per request in each round of gateways that are started for them."""
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        backend, caller = stand.backend(), Caller(SCOPE)
        targets = {
            "ours": ours.start(stand, backend, caller),
            "handwritten": written.start(stand, backend, caller, name="handwritten"),
            "without_scripts": written.start(stand, backend, caller, name="handwritten", scripts=False),
            "bare": written.start(stand, backend, caller, name="bare"),
        }
        for name, target in targets.items():
            verify(target, caller, checks_tokens=name != "bare")
        return costs(targets, shape(stand.folder), backend, caller, options)


def shape(folder: Path) -> Shape:
    """The call as h2load sends it: one gRPC frame."""
    content = REQUEST.SerializeToString()
    body = folder / "get_product.bin"
    body.write_bytes(b"\0" + len(content).to_bytes(4, "big") + content)
    return Shape(METHOD, ("content-type: application/grpc", "te: trailers"), body)


def costs(
    targets: Mapping[str, Target], sent: Shape, backend: Backend, caller: Caller, options: argparse.Namespace
) -> dict[str, list[float]]:
    """CPU us per request of each target, measured in turns once all have settled."""

    def side(target: Target) -> Callable[[], float]:
        return lambda: cost(target, sent, backend, token=caller.token, requests=options.requests)

    sides = {name: side(target) for name, target in targets.items()}
    in_turns(sides, SETTLING)
    return in_turns(sides, options.rounds)


def verify(target: Target, caller: Caller, *, checks_tokens: bool) -> None:
    """One real call is answered rightly; where tokens are checked, none, a foreign and a lesser one are refused."""
    with closing(grpc.insecure_channel(f"{HOST}:{target.port}")) as channel:
        call: Any = channel.unary_unary(METHOD, GetProductRequest.SerializeToString, Product.FromString)

        def answer(token: str) -> grpc.StatusCode:
            metadata = (("authorization", f"Bearer {token}"),) if token else ()
            try:
                got = call(REQUEST, timeout=10.0, metadata=metadata, wait_for_ready=True)
            except grpc.RpcError as error:
                code: grpc.StatusCode = error.code()
                return code
            if got != answers.product():
                raise BenchError(f"the gateway answered with something else: {got}")
            return grpc.StatusCode.OK

        expected = {caller.token(): grpc.StatusCode.OK}
        if checks_tokens:
            expected |= {
                Caller(SCOPE).token(): grpc.StatusCode.UNAUTHENTICATED,
                caller.token(scope="orders.read"): grpc.StatusCode.PERMISSION_DENIED,
                "": grpc.StatusCode.UNAUTHENTICATED,
            }
        for token, code in expected.items():
            given = answer(token)
            if given != code:
                raise BenchError(f"a gateway that should answer {code.name} answers {given.name}")


def _profile(options: argparse.Namespace) -> None:
    """One gateway for each beginning of the chain; what a link adds is the difference to the one before."""
    links = [link.name for link in CHAIN if link.name != names.ROUTER]
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        backend, caller = stand.backend(), Caller(SCOPE)
        targets: dict[str, Target] = {"envoy": written.start(stand, backend, caller, name="bare")}
        for count in range(len(links) + 1):
            kept = {*links[:count], names.ROUTER}
            name = links[count - 1] if count else "listener"
            targets[name] = ours.start(stand, backend, caller, name=f"profile-{count}", links=kept.__contains__)
        found = costs(targets, shape(stand.folder), backend, caller, options)
    before = 0.0
    for name, samples in found.items():
        now = statistics.median(samples)
        print(f"{name:<40} {now:7.1f} us  {now - before:+7.1f}")
        before = now


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
