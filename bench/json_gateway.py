"""CPU of JSON over HTTP/1.1 through the gateway, against a FastAPI gateway for the same two methods.

A read without a body and an order with one, each with a valid token. The gateway does all it always does: limits,
strict check of the body, transcoding, token, scopes, spans, access log. The other side verifies the token of each
request, as FastAPI's own guide does; what it costs where it remembers verified tokens is measured as well.
"""

import argparse
import http.client
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from bench import backend as answers
from bench import ours, report
from bench.load import Shape, Target, cost
from bench.measure import in_turns, middle, ratios, summary
from bench.report import BenchError, Claim
from bench.stand import HOST, Backend, Caller, Stand, answers_with, cores, free_port, until

SCOPES: Final = ("catalog.read", "orders.write")
PRODUCT: Final = f"/v1/{answers.product().name}"
ORDERS: Final = "/v1/orders"
ORDER: Final = json.dumps(
    {
        "items": [{"productId": f"{number:06}", "quantity": number + 1} for number in range(5)],
        "requestId": "00000000-0000-4000-8000-000000000000",
    }
)
_JSON: Final = "content-type: application/json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=report.whole, default=4000, help="requests in each round (default 4000)")
    parser.add_argument("--rounds", type=report.whole, default=5, help="rounds of each side (default 5)")


def measure(options: argparse.Namespace) -> list[Claim]:
    with tempfile.TemporaryDirectory(prefix="weft-bench-") as path, Stand(Path(path)) as stand:
        backend, caller = stand.backend(), Caller(*SCOPES)
        targets = {
            "ours": ours.start(stand, backend, caller),
            "fastapi": _fastapi(stand, backend, caller, remember=False),
            "remembering": _fastapi(stand, backend, caller, remember=True),
        }
        for name, target in targets.items():
            verify(name, target, caller)
        body = stand.folder / "order.json"
        body.write_text(ORDER)
        shapes = {
            "get": Shape(PRODUCT, http1=True, connections=8),
            "post": Shape(ORDERS, (_JSON,), body, http1=True, connections=8),
        }

        def side(target: Target, sent: Shape) -> Callable[[], float]:
            return lambda: cost(target, sent, backend, token=caller.token, requests=options.requests)

        sides = {(kind, name): side(targets[name], sent) for kind, sent in shapes.items() for name in targets}
        found = in_turns(sides, options.rounds)
    says = {"get": "JSON GetProduct", "post": "JSON PlaceOrder with five items"}
    claims = []
    for kind in shapes:
        against = {name: middle(ratios(found[kind, "ours"], found[kind, name])) for name in ("fastapi", "remembering")}
        sides_of = {
            "unit": "CPU us per request",
            "ours": summary(found[kind, "ours"]),
            "theirs": summary(found[kind, "fastapi"]),
            "theirs, remembering tokens": summary(found[kind, "remembering"]),
            "ratio to theirs, remembering tokens": round(against["remembering"].median, 3),
            "ratios": against["fastapi"].as_object(),
        }
        text = f"{says[kind]} through the compiled gateway, against a FastAPI gateway"
        figure = round(against["fastapi"].median, 3)
        claims.append(Claim(f"json_gateway_{kind}", text, figure, floor=0.5, goal=0.4, sides=sides_of))
    return claims


def _fastapi(stand: Stand, backend: Backend, caller: Caller, *, remember: bool) -> Target:
    port, keys = free_port(), stand.folder / "fastapi.keys.json"
    keys.write_text(caller.keys)
    command = [sys.executable, "-m", "bench.fastapi_gateway", "--port", str(port), "--keys", str(keys)]
    command += ["--remember"] if remember else []
    process = stand.start([*command, "--backend", f"{HOST}:{backend.port}"], core=cores()[0])

    def answered() -> bool:
        if process.poll() is not None:
            raise BenchError("the FastAPI gateway ended; is it installed? run `deploy/setup.sh bench`")
        return answers_with(f"http://{HOST}:{port}/", 404)

    until(answered, "the FastAPI gateway did not answer")
    return Target(process.pid, port)


def verify(name: str, target: Target, caller: Caller) -> None:
    """Both calls are answered rightly, and refused without a token, with a lesser one, and with an unknown field."""
    token = caller.token()
    wrong = ORDER.replace('"quantity"', '"quantty"', 1)
    cases: list[tuple[str, str, str | None, str, int]] = [
        ("GET", PRODUCT, None, token, 200),
        ("POST", ORDERS, ORDER, token, 200),
        ("GET", PRODUCT, None, "", 401),
        ("GET", PRODUCT, None, Caller(*SCOPES).token(), 401),
        ("POST", ORDERS, ORDER, caller.token(scope="catalog.read"), 403),
        ("POST", ORDERS, wrong, token, 400 if name == "ours" else 422),
    ]
    for verb, path, body, shown, status in cases:
        given, answer = _call(target, verb, path, body, shown)
        if given != status:
            raise BenchError(f"{name} answers {verb} {path} with {given} instead of {status}: {answer}")
        if status == 200 and answer.get("name") != (answers.product() if verb == "GET" else answers.order()).name:
            raise BenchError(f"{name} answers {verb} {path} with something else: {answer}")


def _call(target: Target, verb: str, path: str, body: str | None, token: str) -> tuple[int, dict[str, Any]]:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    if body is not None:
        headers["content-type"] = "application/json"
    with closing(http.client.HTTPConnection(HOST, target.port, timeout=10.0)) as connection:
        connection.request(verb, path, body, headers)
        response = connection.getresponse()
        content: dict[str, Any] = json.loads(response.read())
        return response.status, content


if __name__ == "__main__":
    sys.exit(report.main(sys.modules[__name__]))
