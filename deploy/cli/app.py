"""The command `weft`: every verb there is, in the order `--help` shows them. A new verb is a line in here."""

import typer

from deploy.cli import contracts, explain, jobs, keys, mesh

app = typer.Typer(
    name="weft",
    help="Run a mesh of contract-first gRPC services on this machine, look at it, and send it work.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for verb in (
    mesh.up,
    mesh.down,
    mesh.status,
    mesh.logs,
    mesh.kill,
    explain.explain,
    jobs.token,
    jobs.replay,
    jobs.demo,
):
    app.command()(verb)

contract_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for verb in (contracts.plan, contracts.check, contracts.publish, contracts.rollback):
    contract_verbs.command()(verb)
app.add_typer(contract_verbs, name="contracts", help="Compare, check and publish the contracts; take them back.")

key_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
key_verbs.command("list")(keys.list_keys)
key_verbs.command()(keys.rotate)
key_verbs.command()(keys.revoke)
app.add_typer(key_verbs, name="keys", help="Show, rotate and revoke the keys that sign access tokens.")
