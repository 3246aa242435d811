"""The command `weft`: every verb there is, in the order `--help` shows them. A new verb is a line in VERBS.

A verb's module is imported when the verb is called for. What all of them need together takes half a second to import,
and neither `--help` nor a shell that completes a name should wait for it.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from deploy.cli import exits


class OutputClosedError(Exception):
    """Whoever read standard output has gone."""


class Verb(TyperCommand):
    """What is known of a verb before its module is imported."""

    def __init__(self, name: str, says: str, place: str) -> None:
        """`says`: the line of `--help`; `place`: `module:function` in this package."""
        super().__init__(name, short_help=says, rich_markup_mode=None)
        self.place = place

    def load(self) -> Any:
        """The command itself."""
        module, _, function = self.place.partition(":")
        loaded = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        loaded.command(self.name)(getattr(import_module(f"deploy.cli.{module}"), function))
        return get_command(loaded)


class Verbs(TyperGroup):
    """Verbs under one name; a verb is imported when it is called."""

    def __init__(self, name: str, says: str, verbs: "Sequence[Verb | Verbs]") -> None:
        super().__init__(name=name, help=says, short_help=says, rich_markup_mode=None)
        for verb in verbs:
            self.add_command(verb)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Without a verb it shows which there are, and that one was missing by its exit code."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help())
            raise typer.Exit(exits.USAGE)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """As TyperGroup does, with the verb imported. Completion asks here too."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Verb) else command, rest

    def invoke(self, ctx: Any) -> Any:
        """Raises OutputClosedError, or Abort after Ctrl-C, where typer would end with a code and not a word."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise OutputClosedError from error
        except KeyboardInterrupt as error:
            raise typer.Abort from error


VERBS: Final = (
    Verb("up", "Start the mesh, and wait until every part is healthy.", "mesh:up"),
    Verb("down", "Stop everything that `up` started; the data stays.", "mesh:down"),
    Verb("status", "Show every process, and where the pages are.", "mesh:status"),
    Verb("check", "Look for what is wrong, and say what to do about it.", "check:check"),
    Verb("logs", "Print the last lines that parts wrote.", "mesh:logs"),
    Verb("dev", "Have the mesh follow every save.", "dev:dev"),
    Verb("call", "Call a method, and explain its answer.", "call:call"),
    Verb("explain", "Say why a call was refused, or would be.", "explain:explain"),
    Verb("roll", "Replace every instance by a new process.", "change:roll"),
    Verb("scale", "Have more or fewer instances.", "change:scale"),
    Verb("kill", "End a part, to see that nobody notices.", "change:kill"),
    Verb("restart", "Stop one process and start it again.", "mesh:restart"),
    Verb("proxies", "Show what clients make of their configuration.", "proxies:proxies"),
    Verb("token", "Print an access token.", "jobs:token"),
    Verb("replay", "Send a file of orders through the mesh.", "jobs:replay"),
    Verb("demo", "Send a synthetic day of orders through the mesh.", "jobs:demo"),
    Verb("backup", "Write what all databases hold, while they serve.", "backups:backup"),
    Verb("restore", "Restore a backup into an empty mesh.", "backups:restore"),
    Verb("bench", "Measure what Weft claims of its cost.", "trials:bench"),
    Verb("chaos", "Hurt a mesh of its own, and check its invariants.", "trials:chaos"),
    Verb("mock", "Stand in for services that are not there.", "mock:mock"),
    Verb("mcp", "Offer methods to language models.", "tools:mcp"),
    Verbs(
        "new",
        "Make a new service.",
        (Verb("service", "Make its contract, code, migration and tests.", "new:service"),),
    ),
    Verbs(
        "contracts",
        "Compare, check, explain and publish the contracts.",
        (
            Verb("plan", "Show what they would change.", "contracts:plan"),
            Verb("check", "Name rules they break, and whom they would break.", "contracts:check"),
            Verb("consumers", "List who calls the services, and what they use.", "contracts:consumers"),
            Verb("docs", "Write them as pages.", "contracts:docs"),
            Verb("publish", "Have the running mesh go by them.", "contracts:publish"),
            Verb("rollback", "Have it go by those before.", "contracts:rollback"),
        ),
    ),
    Verbs(
        "export",
        "Write the desired state for compose or Kubernetes.",
        (
            Verb("compose", "Write a compose file.", "export:compose"),
            Verb("kubernetes", "Write Kubernetes objects.", "export:kubernetes"),
            Verb("secrets", "Make the secret files that containers read.", "export:secrets"),
        ),
    ),
    Verbs(
        "lane",
        "Try another version on some calls; it rolls back by itself.",
        (
            Verb("start", "Start instances of another version.", "lane:start"),
            Verb("shift", "Send another share of the users there.", "lane:shift"),
            Verb("watch", "Show what its callers see, beside the others.", "lane:watch"),
            Verb("promote", "Make it the stable version.", "lane_promotion:promote"),
            Verb("end", "Send nobody there any more, and drain it.", "lane:end"),
            Verb("list", "List the lanes, and whom they take.", "lane:list_lanes"),
        ),
    ),
    Verbs(
        "certificates",
        "Show and renew what the gateways show over TLS.",
        (
            Verb("show", "Show the certificate, and what to trust it by.", "certificates:show"),
            Verb("renew", "Show a new one from now on, the parts among each other too.", "certificates:renew"),
        ),
    ),
    Verbs(
        "keys",
        "Show, rotate and revoke the keys that sign access tokens.",
        (
            Verb("list", "Show the keys, and which of them signs.", "keys:list_keys"),
            Verb("rotate", "Have a new key sign.", "keys:rotate"),
            Verb("revoke", "Take back a key that somebody else may have.", "keys:revoke"),
        ),
    ),
    Verbs(
        "dlq",
        "Look at events that workers have put aside, and try them again.",
        (
            Verb("list", "Show which, and why.", "deadletters:list_letters"),
            Verb("show", "Show one of them whole.", "deadletters:show"),
            Verb("replay", "Have them tried again.", "deadletters:replay"),
            Verb("rehearse", "Put a harmless one aside, to try the others on.", "deadletters:rehearse"),
        ),
    ),
    Verbs(
        "audit",
        "Say whether the audit log is what was written.",
        (Verb("verify", "Check every record, and name those that were touched.", "audit:verify"),),
    ),
    Verb("completion", "Print what makes a shell complete names.", "completion:completion"),
)

app: Final = Verbs("weft", "Run a mesh of contract-first gRPC services on this machine, look at it, and use it.", VERBS)
