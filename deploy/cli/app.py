"""The command `weft`: every verb there is, in the order `--help` shows them. A new verb is a line in here."""

import typer

from deploy.cli import (
    audit,
    backups,
    bench,
    certificates,
    change,
    contracts,
    deadletters,
    explain,
    jobs,
    keys,
    lane,
    mesh,
    proxies,
)

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
    change.roll,
    change.scale,
    change.kill,
    mesh.restart,
    proxies.proxies,
    explain.explain,
    jobs.token,
    jobs.replay,
    jobs.demo,
    backups.backup,
    backups.restore,
    bench.bench,
):
    app.command()(verb)

contract_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for verb in (
    contracts.plan,
    contracts.check,
    contracts.consumers,
    contracts.docs,
    contracts.publish,
    contracts.rollback,
):
    contract_verbs.command()(verb)
app.add_typer(contract_verbs, name="contracts", help="Compare, check, explain and publish the contracts.")

lane_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
lane_verbs.command()(lane.start)
lane_verbs.command()(lane.shift)
lane_verbs.command()(lane.watch)
lane_verbs.command()(lane.end)
lane_verbs.command("list")(lane.list_lanes)
app.add_typer(lane_verbs, name="lane", help="Try another version of services on some calls; it rolls back by itself.")

certificate_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
for verb in (certificates.show, certificates.renew):
    certificate_verbs.command()(verb)
app.add_typer(certificate_verbs, name="certificates", help="Show and renew what the gateways show over TLS.")

key_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
key_verbs.command("list")(keys.list_keys)
key_verbs.command()(keys.rotate)
key_verbs.command()(keys.revoke)
app.add_typer(key_verbs, name="keys", help="Show, rotate and revoke the keys that sign access tokens.")

letter_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
letter_verbs.command("list")(deadletters.list_letters)
letter_verbs.command()(deadletters.show)
letter_verbs.command()(deadletters.replay)
app.add_typer(letter_verbs, name="dlq", help="Look at events that workers have put aside, and have them tried again.")

audit_verbs = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
audit_verbs.callback()(lambda: None)
audit_verbs.command()(audit.verify)
app.add_typer(audit_verbs, name="audit", help="Say whether the audit log is what was written.")
