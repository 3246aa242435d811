"""What the compiler refuses: violations of the rules, each with file, line and fix.

Every pass reports with these types; only __main__ turns them into lines on stderr and an exit code.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from weft_protos.locations import Location


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One thing that a contract says and must not say."""

    location: Location
    """Where it is said, or where it should have been said."""
    message: str
    """What is wrong, naming the method or the event."""
    fix: str
    """What to write instead."""

    def __str__(self) -> str:
        return f"{self.location}: {self.message}; {self.fix}"


class CompileError(Exception):
    """The contracts break rules. Carries all violations at once, in the order of files and lines."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(sorted(set(violations)))
        super().__init__("\n".join(str(violation) for violation in self.violations))


class ContractUnreadableError(Exception):
    """The descriptor set is missing, is not one, or lacks what its own files import."""


class UnknownMethodError(Exception):
    """A method was asked for that no contract has; the message names close ones."""


class UnknownScopeError(Exception):
    """A scope was asked about that no contract names; the message names those there are."""
