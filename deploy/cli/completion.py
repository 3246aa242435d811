"""The verb `weft completion`: what makes a shell ask us for the words that fit. Registered by app.py.

The shell runs `weft` itself with two variables set, in typer's own protocol; whatever name or path it was called by.
"""

from enum import StrEnum
from typing import Annotated, Final

import typer

from deploy.supervisor import config

_VARIABLE: Final = "_WEFT_COMPLETE"

_BASH: Final = """\
_weft_completion() {
    local IFS=$'\\n'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %s=complete_bash "$1" 2>/dev/null ) )
}
complete -o default -F _weft_completion weft
"""
_ZSH: Final = """\
#compdef weft
_weft_completion() {
  eval "$(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" %s=complete_zsh "${words[1]}" 2>/dev/null)"
}
compdef _weft_completion weft
"""
_FISH: Final = """\
function __weft_completion
    set -l words (commandline -opc)
    set -l asked _TYPER_COMPLETE_FISH_ACTION=$argv[1] _TYPER_COMPLETE_ARGS=(commandline -cp)
    env %s=complete_fish $asked $words[1] 2>/dev/null
end
complete --command weft --no-files --condition "__weft_completion is-args" --arguments "(__weft_completion get-args)"
"""


class Shell(StrEnum):
    """Shells that complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


_SCRIPTS: Final = {Shell.BASH: _BASH, Shell.ZSH: _ZSH, Shell.FISH: _FISH}


def prepare() -> None:
    """Make typer ready to answer, where it is a shell that asks."""
    if config.is_set(_VARIABLE):
        from typer._completion_classes import completion_init

        completion_init()


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print what makes a shell complete verbs, options, processes, services, lanes, scopes and methods.

    For good: put the line of the example into ~/.bashrc or ~/.zshrc; for fish, write what this prints to
    ~/.config/fish/completions/weft.fish.

    Example: eval "$(.venv/bin/weft completion bash)"
    """
    print(_SCRIPTS[shell] % _VARIABLE, end="")
