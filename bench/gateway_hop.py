"""CPU of the gateway hop for a gRPC call with a valid token: the compiled gateway against one written by hand with the
same filters, and against a bare Envoy.

They run side by side over one backend and are put under load in turns, in many short rounds. A figure is the median of
the rounds' own ratios, and stands with the interval that holds it. `--profile` builds the compiled chain up link by
link instead and prints what each one adds.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import grpc

from bench import backend as answers
from bench import ours, report, written
from bench.load import Shape, Target, cost
from bench.measure import in_turns, paired, summary
from bench.report import BenchError, Claim
from bench.stand import HOST, Backend, Caller, Stand
from gateway.envoy import names
from gateway.envoy.filters import CHAIN
from weft.catalog.v1.catalog_pb2 import GetProductRequest, Product

METHOD: Final = "/weft.catalog.v1.CatalogService/GetProduct"
SCOPE: Final = "catalog.read"
REQUEST: Final = GetProductRequest(name=answers.product().name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=report.whole, default=1000, help="requests in each round (default 1000)")
    parser.add_argument("--rounds", type=report.whole, default=24, help="rounds of each side (default 24)")
    parser.add_argument("--profile", action="store_true", help="print what each link of the chain costs, claim nothing")


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        backend, caller = stand.backend(), Caller(SCOPE)
        if options.profile:
            _profile(stand, backend, caller, options)
            return []
        targets = {
            "ours": ours.start(stand, backend, caller),
            "handwritten": written.start(stand, backend, caller, name="handwritten"),
            "without_scripts": written.start(stand, backend, caller, name="handwritten", scripts=False),
            "bare": written.start(stand, backend, caller, name="bare"),
        }
        for name, target in targets.items():
            verify(target, caller, checks_tokens=name != "bare")
        found = costs(targets, shape(stand.folder), backend, caller, options)
    sides = {name: summary(samples) for name, samples in found.items()}
    handwritten, bare = (paired(found["ours"], found[name]) for name in ("handwritten", "bare"))
    unit = {"unit": "CPU us per request"}
    return [
        Claim(
            "gateway_hop_handwritten",
            "gRPC GetProduct through the compiled gateway, against an Envoy written by hand with the same filters",
            round(handwritten.median, 3),
            floor=1.15,
            goal=1.0,
            sides=unit
            | {
                "interval": handwritten.as_object(),
                "ours": sides["ours"],
                "theirs": sides["handwritten"],
                "theirs_without_scripts": sides["without_scripts"],
            },
        ),
        Claim(
            "gateway_hop_bare",
            "gRPC GetProduct through the compiled gateway, against a bare Envoy that only routes",
            round(bare.median, 3),
            floor=1.5,
            goal=1.25,
            sides=unit | {"interval": bare.as_object(), "ours": sides["ours"], "theirs": sides["bare"]},
        ),
    ]


def shape(folder: Path) -> Shape:
    """The call as h2load sends it: one gRPC frame."""
    content = REQUEST.SerializeToString()
    body = folder / "get_product.bin"
    body.write_bytes(b"\0" + len(content).to_bytes(4, "big") + content)
    return Shape(METHOD, ("content-type: application/grpc", "te: trailers"), body)


def costs(
    targets: Mapping[str, Target], sent: Shape, backend: Backend, caller: Caller, options: argparse.Namespace
) -> dict[str, list[float]]:
    """CPU us per request of each target, measured in turns."""

    def side(target: Target) -> Callable[[], float]:
        return lambda: cost(target, sent, backend, token=caller.token, requests=options.requests)

    return in_turns({name: side(target) for name, target in targets.items()}, options.rounds)


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


def _profile(stand: Stand, backend: Backend, caller: Caller, options: argparse.Namespace) -> None:
    """One gateway for each beginning of the chain; what a link adds is the difference to the one before."""
    links = [link.name for link in CHAIN if link.name != names.ROUTER]
    targets: dict[str, Target] = {"envoy": written.start(stand, backend, caller, name="bare")}
    for count in range(len(links) + 1):
        kept = {*links[:count], names.ROUTER}
        name = links[count - 1] if count else "listener"
        targets[name] = ours.start(stand, backend, caller, name=f"profile-{count}", links=kept.__contains__)
    found = costs(targets, shape(stand.folder), backend, caller, options)
    before = 0.0
    for name, samples in found.items():
        middle = statistics.median(samples)
        print(f"{name:<40} {middle:7.1f} us  {middle - before:+7.1f}")
        before = middle


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
