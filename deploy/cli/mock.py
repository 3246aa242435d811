"""The verb `weft mock`: services of the contracts that are not there. It is svc's own mock, as a process of its own."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

Services = Annotated[list[str], typer.Argument(help="As clients call it, `catalog`, or its full name; or several.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port for gRPC; 0: any.")]
WebPort = Annotated[int, typer.Option(min=0, max=65535, help="Port for gRPC-web; 0: any.")]
Answers = Annotated[Path | None, typer.Option(metavar="FILE", help="What to answer to which request; else examples.")]
Scope = Annotated[list[str] | None, typer.Option(help="Ask for tokens, and print one with these scopes; repeatable.")]


def mock(
    service: Services,
    port: Port = 0,
    *,
    web_port: WebPort = 0,
    answers: Answers = None,
    scope: Scope = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Stand in for services: their rules, their declared errors, your answers or examples; until it is stopped.

    A request that breaks the contract is refused as the real service refuses it. FILE is a JSON list of
    {"method", "request", "answer" | "answers" | "error": {"code", "reason"} | "hangs"}, or a record of contract tests.

    Example: weft mock catalog orders --port 9090 --answers answers.json
    """
    arguments = [*service, "--port", str(port), "--web-port", str(web_port)]
    arguments += ["--answers", str(answers)] if answers is not None else []
    arguments += [word for name in scope or () for word in ("--scope", name)]
    arguments += ["--json"] if json_ else []
    # In place of this process: a signal meets the mock itself.
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "svc.contract_tests", "mock", *arguments])
