"""The verbs that use a running mesh: token, replay, demo. Registered by app.py."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import grpc
import typer
from rich.console import Console

from deploy.cli import exits, names
from deploy.cli.exits import Json, fail
from deploy.cli.gateway_client import PATIENCE_S, GatewayClient, SignInError, describe
from deploy.cli.replay import books, lines, plan, report, synthetic
from deploy.cli.replay.balance import Row, lines_row, steps_row
from deploy.cli.replay.run import CONCURRENCY_DEFAULT, Runner
from deploy.cli.terminal import LINE_WIDTH
from deploy.supervisor.config import Settings, child_environ
from deploy.supervisor.layout import Layout
from deploy.supervisor.mesh import Mesh
from deploy.supervisor.messages import Status
from weft_protos import policy

#: How long somebody at a terminal waits for a gateway before being told that it does not answer.
IMPATIENT_S: Final = 10.0

Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Customers served at the same time.")]


def token(
    scope: Annotated[
        list[str] | None,
        typer.Option(help="Only these scopes; repeatable. All where absent.", autocompletion=names.scopes),
    ] = None,
    user: Annotated[str, typer.Option(help="Act for this user (its id); audited.")] = "",
    json_: Json = False,
) -> None:
    """Print an access token of the operator, or one that acts for a user.

    Example: curl -H "authorization: Bearer $(weft token --scope catalog.read)" http://127.0.0.1:8080/v1/products
    """
    known = policy.scopes()
    for name in scope or ():
        if name not in known:
            fail(exits.USAGE, f"no contract names the scope {name!r}; known are {', '.join(sorted(known))}")
    client, _ = connect(patience_s=IMPATIENT_S)
    try:
        session = client.delegate(user, *(scope or ())) if user else client.sign_in(*(scope or ()))
    except SignInError as error:
        fail(exits.UNREACHABLE, str(error))
    except grpc.RpcError as error:
        fail(exits.FAILED, describe(error))
    finally:
        client.close()
    if json_:
        answer = {"access_token": session.access_token, "expires_in": session.expires_in.seconds, "user": session.user}
        print(json.dumps({**answer, "scopes": list(session.scopes)}))
    else:
        print(session.access_token)


def replay(
    file: Annotated[Path, typer.Argument(help="CSV of order lines, plain or gzip-compressed.")],
    limit: Annotated[int | None, typer.Option(min=0, help="Only the first N invoices.")] = None,
    speed: Annotated[float | None, typer.Option(min=0.001, help="So many times the file's own pace.")] = None,
    concurrency: Concurrency = CONCURRENCY_DEFAULT,
    json_: Json = False,
) -> None:
    """Send a file of real orders through the gateway and print the balance; exit 1 where it is not even.

    Customers run beside each other, one customer's invoices in file order. A run that was stopped is started again
    with the same command: nothing happens twice.

    Example: weft replay orders.csv.gz --limit 100
    """
    try:
        orders = lines.read(file)
    except lines.FileRefusedError as error:
        fail(exits.USAGE, str(error))
    _run(plan.make(orders, limit=limit), concurrency=concurrency, speed=speed, as_json=json_)


def demo(
    invoices: Annotated[int, typer.Option(min=1, max=100_000, help="Invoices of the day.")] = 120,
    seed: Annotated[int, typer.Option(help="The same seed gives the same day.")] = 1,
    concurrency: Concurrency = CONCURRENCY_DEFAULT,
    json_: Json = False,
) -> None:
    """Send a synthetic day of orders through the mesh, print its balance and where to look.

    Example: weft demo --invoices 500 --seed 7
    """
    content = synthetic.day(invoices=invoices, seed=seed)
    urls = _run(plan.make(lines.parse(content, name="demo")), concurrency=concurrency, speed=None, as_json=json_)
    if not json_:
        for name, url in urls.items():
            print(f"{name:<10} {url}")


def _run(work: plan.Plan, *, concurrency: int, speed: float | None, as_json: bool) -> dict[str, str]:
    """Carry out a plan, settle the books and print the report. Returns where to look; exits where it is not even."""
    client, status = connect()
    secrets = Layout(Settings.from_environ().data).secrets
    environment = {**child_environ(), "WEFT_SECRETS": str(secrets)}
    try:
        with report.ProgressView() as view:
            runner = Runner(work, client, concurrency=concurrency, speed=speed, progress=view.advance)
            outcome = runner.run()
        settled = books.settle(environment, str(status.urls["mail"]).rstrip("/"), on_wait=view.waiting)
    except KeyboardInterrupt:
        fail(exits.INTERRUPTED, "stopped; start it again with the same command, nothing will happen twice")
    except (SignInError, books.FactsError) as error:
        fail(exits.UNREACHABLE, str(error))
    except grpc.RpcError as error:
        fail(exits.FAILED, f"products, stock or users could not be imported: {describe(error)}")
    finally:
        client.close()
    refused = sum(work.refused.values())
    rows: Sequence[Row] = [
        lines_row(lines=work.lines, taken=work.taken, merged=work.merged, refused=refused),
        steps_row(planned=work.steps, done=outcome.acknowledged),
        *settled,
    ]
    result = report.as_object(work, outcome, client.counters, rows)
    if as_json:
        print(json.dumps(result))
    else:
        report.show(result, Console(width=None if sys.stdout.isatty() else LINE_WIDTH))
    if not result["even"]:
        fail(exits.FAILED, "the balance is not even")
    return {name: url for name, url in status.urls.items() if url is not None}


def connect(*, patience_s: float = PATIENCE_S) -> tuple[GatewayClient, Status]:
    """A client of the running mesh and the mesh's status; exits with the cause where there is none.

    `patience_s`: how long it repeats a call; short where somebody waits for one answer.
    """
    try:
        mesh = Mesh(Settings.from_environ().data)
        status = mesh.status()
        return GatewayClient.for_operator(mesh.gateway, mesh.secrets, patience_s=patience_s), status
    except SignInError as error:
        fail(exits.UNREACHABLE, str(error))
