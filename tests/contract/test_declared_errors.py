"""What services raise is what their contracts declare, method by method, and nothing is declared that nobody raises.

Read from the source: a method's errors are those of every function that its use case can reach, by name, within the
package. What the chassis raises belongs to no method, but for the reuse of a request id.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from google.protobuf.descriptor import MethodDescriptor

from svc.chassis.interceptors.status import CODES
from weft_protos import declared, policy
from weft_protos.declared import Error

ROOT = Path(__file__).resolve().parents[2]
CHASSIS = ROOT / "svc/chassis"
GATEWAY = (ROOT / "gateway/envoy/filters/refusal.lua").read_text()
METHODS = [method for service in policy.SERVICES for method in service.methods]
ANY_CALL = {Error(code, reason) for code, reasons in declared.ANY_CALL.items() for reason in reasons}
KINDS = {kind.__name__: kind for kind in CODES}


def parsed(paths: Iterable[Path]) -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted(paths)]


def raised(tree: ast.AST) -> Iterator[Error]:
    """The errors that code makes: an AppError's class with a constant reason, or with its default one."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS):
            continue
        if any(word.arg is None for word in node.keywords):
            continue  # what a peer said is passed on
        kind = KINDS[node.func.id]
        reasons = [word.value for word in node.keywords if word.arg == "reason"]
        if not reasons:
            yield Error(CODES[kind], kind.default_reason)
        elif isinstance(reasons[0], ast.Constant):
            yield Error(CODES[kind], str(reasons[0].value))


def faults_left_out(found: Iterable[Error]) -> set[Error]:
    """INTERNAL is ours to mend, and no caller may rely on it."""
    return {error for error in found if error.code != "INTERNAL"}


def definitions(owner: str) -> Mapping[str, list[ast.FunctionDef]]:
    """Functions and methods of a service's package by name; a class is what Python calls on its instances by itself."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for tree in [*parsed((ROOT / "svc" / owner).glob("*.py")), *parsed([CHASSIS / "idempotency.py"])]:
        for node in tree.body:
            inside = node.body if isinstance(node, ast.ClassDef) else [node]
            for function in (each for each in inside if isinstance(each, ast.FunctionDef)):
                found.setdefault(function.name, []).append(function)
                if isinstance(node, ast.ClassDef) and function.name.startswith("__"):
                    found.setdefault(node.name, []).append(function)
    return found


def named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def reachable(method: MethodDescriptor) -> set[Error]:
    """The errors of everything that a method's handler can call, by name."""
    known = definitions(policy.service_owner(method.containing_service.full_name))
    pending, seen, found = [method.name], {method.name}, set[Error]()
    while pending:
        for definition in known.get(pending.pop(), []):
            found.update(raised(definition))
            new = set(named(definition)) - seen
            seen |= new
            pending += sorted(new)
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_declares_just_what_it_raises(method: MethodDescriptor) -> None:
    said = set(declared.errors(method))

    assert sorted(faults_left_out(reachable(method)) - (ANY_CALL - said)) == sorted(said)


def test_no_error_of_a_service_escapes_the_search() -> None:
    # Not on any wire: commands of the operator, which print what they fail with.
    commands = {Error("FAILED_PRECONDITION", "TOO_MANY_KEYS")}
    owners = {policy.service_owner(service.full_name) for service in policy.SERVICES}
    written = {
        error for owner in owners for tree in parsed((ROOT / "svc" / owner).glob("*.py")) for error in raised(tree)
    }
    said = {error for method in METHODS for error in declared.errors(method)}

    assert commands == faults_left_out(written) - said - ANY_CALL


def test_any_call_may_meet_what_gateway_and_chassis_give_but_for_a_request_id_used_twice() -> None:
    written = {error for tree in parsed(CHASSIS.rglob("*.py")) for error in raised(tree)}
    defaults = {Error(CODES[kind], kind.default_reason) for kind in CODES}

    assert {Error("FAILED_PRECONDITION", "REQUEST_ID_REUSED")} == faults_left_out(written) - ANY_CALL
    assert [] == [error for error in ANY_CALL - written - defaults if f'"{error.reason}"' not in GATEWAY]


def test_a_method_with_a_request_id_declares_that_it_can_be_used_twice() -> None:
    keyed = {method.name for method in METHODS if "request_id" in method.input_type.fields_by_name}
    reuse = Error("FAILED_PRECONDITION", "REQUEST_ID_REUSED")

    assert keyed == {method.name for method in METHODS if reuse in declared.errors(method)}


def test_every_declared_code_is_one_that_the_chassis_can_give() -> None:
    said = {error.code for method in METHODS for error in declared.errors(method)}

    assert set() == (said | set(declared.ANY_CALL)) - set(CODES.values())
