"""Entry point of the command `weft`: one clear line on standard error for whatever is wrong, and an exit code.

The codes are those of `exits.py`. Nothing is imported before Ctrl-C is listened to.
"""

import sys


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130  # within an import, or while it stopped already
    except BrokenPipeError:
        code = _closed()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """The exit code of one invocation."""
    import typer
    from typer.exceptions import TyperException

    from deploy.cli import completion, exits
    from deploy.cli.app import OutputClosedError, app
    from deploy.supervisor.errors import ConfigError, NotRunningError, SupervisorError
    from weft_protos.manifests import ManifestError

    completion.prepare()
    try:
        # Not in standalone mode: that would answer a wrong argument with a framed page instead of one line.
        code = app.main(arguments, prog_name="weft", standalone_mode=False)
    except TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except (ConfigError, ManifestError) as error:
        return _fail(str(error), exits.USAGE)
    except NotRunningError as error:
        return _fail(f"{error}; start it with `weft up` or `make up`", exits.UNREACHABLE)
    except SupervisorError as error:
        return _fail(str(error), exits.FAILED)
    except OutputClosedError:
        return _closed()
    except (KeyboardInterrupt, typer.Abort):
        return _fail("stopped", exits.INTERRUPTED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}", exits.FAILED)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"weft: {' '.join(message.split())}", file=sys.stderr)
    return code


def _closed() -> int:
    """Be quiet: what is still in the buffer goes nowhere, or Python would complain of it at its end."""
    import os

    from deploy.cli import exits

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OUTPUT_CLOSED


if __name__ == "__main__":
    main()
