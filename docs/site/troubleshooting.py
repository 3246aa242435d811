"""The page of errors: each code and each reason, what causes it, and what to do.

What a method declares is taken from its contract. What any call may meet is nobody's contract, and has its words in
troubleshooting.toml; so has what to do where more is to be said than for every error of the code.
"""

import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from google.rpc import code_pb2

from deploy.cli.failure import FIXES
from gateway.docs.refusals import HTTP
from weft_protos import declared, policy

SAID: Final = Path(__file__).with_name("troubleshooting.toml")
_NEVER_GIVEN: Final = frozenset({"UNKNOWN", "OUT_OF_RANGE", "DATA_LOSS"})
#: gRPC codes that the mesh gives, with their number and the status of JSON, in the order of google/rpc/code.proto.
CODES: Final[Mapping[str, tuple[int, int]]] = {
    code: (code_pb2.Code.Value(code), http) for code, http in HTTP.items() if code not in _NEVER_GIVEN
}
_RUNBOOK: Final = re.compile(r"(?<=unbook) ([A-Z]\w+)|(?<=unbook:) ([A-Z]\w+)")
_LINK: Final = r" [\1\2](runbooks/\1\2.md)"
_HEAD: Final = """# Troubleshooting

What an error means and what to do, by its code and by the `reason` of its `google.rpc.ErrorInfo`. `weft call` prints
both, and so does every answer in JSON. Made by `make gen` from the contracts and from `docs/site/troubleshooting.toml`.

Not an error but an alert: [runbooks](runbooks). Not a call but the mesh: `weft check`. Who refused a call, by which
rule and on which line of the contract: [Find out why a call was refused](how-to/why-refused.md).

| code | number | HTTP | first of all |
|---|---|---|---|
"""


@dataclass(slots=True)
class Reason:
    """One reason under one code."""

    causes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Cause, with the methods that declare it; none: any call may meet it."""
    fix: str = ""


def said() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """What stands in troubleshooting.toml: code, reason, `cause` and `fix`."""
    return tomllib.loads(SAID.read_text(encoding="utf-8"))


def reasons() -> Mapping[str, Mapping[str, Reason]]:
    """Every reason that the mesh gives, by code."""
    found: dict[str, dict[str, Reason]] = {code: defaultdict(Reason) for code in CODES}
    for code, words in said().items():
        for reason, each in words.items():
            one = found[code][reason]
            one.fix = each.get("fix", "")
            if "cause" in each:
                one.causes[each["cause"]] = []
    for service in policy.SERVICES:
        for method in service.methods:
            for error in policy.effective(method).errors:
                found[error.code][error.reason].causes[error.comment].append(method.name)
    return found


def missing() -> set[declared.Error]:
    """What any call may meet and nobody has explained."""
    words = said()
    met = {declared.Error(code, reason) for code, known in declared.ANY_CALL.items() for reason in known}
    return {error for error in met if not words.get(error.code, {}).get(error.reason, {}).get("cause")}


def page() -> str:
    """The page, in Markdown."""
    return _HEAD + "".join(_rows()) + "".join(_sections())


def _rows() -> Iterator[str]:
    for code, (number, http) in CODES.items():
        yield f"| [{code}](#{code.lower()}) | {number} | {http} | {_general(code)} |\n"


def _general(code: str) -> str:
    return f"{FIXES[code][0].upper()}{FIXES[code][1:]}." if not FIXES[code].startswith("`") else f"{FIXES[code]}."


def _sections() -> Iterator[str]:
    for code, found in reasons().items():
        yield f"\n## {code}\n\n{_general(code)}\n"
        for reason, one in sorted(found.items()):
            yield f"\n### {reason}\n\n"
            yield from (_cause(text, methods) for text, methods in one.causes.items())
            yield f"\n**What to do:** {_RUNBOOK.sub(_LINK, one.fix) or _general(code)}\n"


def _cause(text: str, methods: list[str]) -> str:
    who = f" ({', '.join(f'`{name}`' for name in dict.fromkeys(methods))})" if methods else ""
    return f"- {text[0].upper()}{text[1:].rstrip('.')}{who}.\n"
