"""Entry point of the command `weft`: one clear line on standard error for whatever is wrong, and an exit code.

0 done    1 it failed, or the answer is no    2 a wrong argument or setting    3 the mesh does not run
"""

import sys

import typer
from typer.exceptions import TyperException

from deploy.supervisor.errors import ConfigError, NotRunningError, SupervisorError
from weft_protos.manifests import ManifestError


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one invocation."""
    try:
        # Here and not above: every verb knows what the mesh has, and that is read from files somebody may be editing.
        from deploy.cli.app import app
    except ManifestError as error:
        return _fail(str(error), 2)
    if not arguments:
        app(args=["--help"], prog_name="weft", standalone_mode=False)
        return 2
    try:
        # Not in standalone mode: that would answer a wrong argument with a framed page instead of one line.
        code = app(args=arguments, prog_name="weft", standalone_mode=False)
    except TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except ConfigError as error:
        return _fail(str(error), 2)
    except NotRunningError as error:
        return _fail(f"{error}; start it with `weft up` or `make up`", 3)
    except SupervisorError as error:
        return _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", 130)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"weft: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
