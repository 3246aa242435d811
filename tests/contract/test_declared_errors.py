"""What services raise is what their contracts declare, method by method, and nothing is declared that nobody raises.

Read from the source: a method's errors are those of every function that its use case can reach within the package. A
name is looked up as Python would, in its module and among what that imports. A method of a port or of a parameter is
one of a class that has all methods of the declared type; any other may be one of every class. What the chassis raises
belongs to no method, but for the reuse of a request id.
"""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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
    """The errors that code makes: an AppError's class with a constant reason, maybe a named one, or its default."""
    named = {
        node.target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS):
            continue
        if any(word.arg is None for word in node.keywords):
            continue  # what a peer said is passed on
        kind = KINDS[node.func.id]
        given = [word.value for word in node.keywords if word.arg == "reason"]
        reasons = [named.get(each.id, each) if isinstance(each, ast.Name) else each for each in given]
        if not reasons:
            yield Error(CODES[kind], kind.default_reason)
        elif isinstance(reasons[0], ast.Constant):
            yield Error(CODES[kind], str(reasons[0].value))


def faults_left_out(found: Iterable[Error]) -> set[Error]:
    """INTERNAL is ours to mend, and no caller may rely on it."""
    return {error for error in found if error.code != "INTERNAL"}


def modules(owner: str) -> dict[str, ast.Module]:
    """The modules of a service's package by dotted name, with what the chassis does for it in its own words."""
    paths = [*(ROOT / "svc" / owner).glob("*.py"), CHASSIS / "idempotency.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.Module) -> dict[str, str]:
    """What a module's names stand for that it imports from elsewhere."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def swallowed(attempt: ast.Try) -> Iterator[str]:
    """The codes of errors that a `try` neither passes on nor keeps."""
    for handler in attempt.handlers:
        lost = handler.name is None and not any(isinstance(node, ast.Raise) for node in ast.walk(handler))
        if lost and isinstance(handler.type, ast.Name) and handler.type.id in KINDS:
            yield CODES[KINDS[handler.type.id]]


def mentioned(tree: ast.AST, lost: frozenset[str] = frozenset()) -> Iterator[tuple[ast.Name | ast.Attribute, set[str]]]:
    """Names and attributes in code, each with the codes of errors that go no further than this code."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            yield node, set(lost)
        if isinstance(node, ast.Try):
            guarded = ast.Module(node.body, type_ignores=[])
            yield from mentioned(guarded, lost | set(swallowed(node)))
            yield from mentioned(ast.Module([*node.orelse, *node.finalbody], type_ignores=[]), lost)
            for handler in node.handlers:
                yield from mentioned(handler, lost)
        else:
            yield from mentioned(node, lost)


class Function(NamedTuple):
    """A function or method, and where it stands."""

    module: str
    owner: str
    """Its class; empty where it has none."""
    code: ast.FunctionDef


class Package:
    """A service's code, and what each word of it can mean."""

    def __init__(self, owner: str) -> None:
        trees = modules(owner)
        self._imports = {module: imported(tree) for module, tree in trees.items()}
        #: By dotted name; a class is what Python calls on its instances by itself.
        self._functions: dict[str, list[Function]] = {}
        #: A module is one, too: a port can be filled with it.
        self._classes: dict[str, dict[str, Function]] = {}
        self._ports: dict[str, str] = {}
        for module, tree in trees.items():
            functions = {
                node.name: Function(module, "", node) for node in tree.body if isinstance(node, ast.FunctionDef)
            }
            self._classes[module] = functions
            self._functions |= {f"{module}.{name}": [function] for name, function in functions.items()}
            for node in tree.body:
                if isinstance(node, ast.ClassDef):
                    self._take(module, node)

    def _take(self, module: str, node: ast.ClassDef) -> None:
        name = f"{module}.{node.name}"
        methods = {each.name: Function(module, name, each) for each in node.body if isinstance(each, ast.FunctionDef)}
        self._classes[name] = methods
        self._functions[name] = [method for word, method in methods.items() if word.startswith("__")]
        if node.name == "Ports":
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.annotation, ast.Name):
                    self._ports[ast.unparse(field.target)] = self._meaning(module, field.annotation.id)

    def _meaning(self, module: str, word: str) -> str:
        return self._imports[module].get(word, f"{module}.{word}")

    def handlers(self, method: str) -> list[Function]:
        """Who serves a method of the contract."""
        return self._methods(method, self._classes)

    def _methods(self, word: str, classes: Iterable[str]) -> list[Function]:
        return [self._classes[name][word] for name in classes if word in self._classes[name]]

    def _type(self, receiver: str, within: Function) -> str | None:
        """The declared type of a port or of a parameter; None where nothing is declared that can be read."""
        if receiver.startswith("ports."):
            return self._ports.get(receiver.removeprefix("ports."))
        for node in ast.walk(within.code):
            if isinstance(node, ast.arg) and node.arg == receiver and isinstance(node.annotation, ast.Name):
                return self._meaning(within.module, node.annotation.id)
        return None

    def meant(self, node: ast.Name | ast.Attribute, within: Function) -> list[Function]:
        """What a word of a function can call."""
        if isinstance(node, ast.Name):
            return self._functions.get(self._meaning(within.module, node.id), [])
        receiver = ast.unparse(node.value)
        if self._imports[within.module].get(receiver) in self._imports:
            return self._functions.get(f"{self._imports[within.module][receiver]}.{node.attr}", [])
        if receiver == "self" and node.attr in self._classes[within.owner]:
            return [self._classes[within.owner][node.attr]]
        declared_type = self._type(receiver, within)
        if declared_type is None:
            return self._methods(node.attr, self._classes.keys() - self._imports.keys())
        if declared_type not in self._classes:
            return []
        wanted = self._classes[declared_type].keys()
        return self._methods(node.attr, [name for name, methods in self._classes.items() if wanted <= methods.keys()])


@cache
def package_of(owner: str) -> Package:
    return Package(owner)


def reachable(method: MethodDescriptor) -> set[Error]:
    """The errors of everything that a method's handler can call."""
    package = package_of(policy.service_owner(method.containing_service.full_name))
    pending = [(handler, frozenset[str]()) for handler in package.handlers(method.name)]
    seen, found = set(pending), set[Error]()
    while pending:
        function, lost = pending.pop()
        found.update(error for error in raised(function.code) if error.code not in lost)
        for node, more in mentioned(function.code):
            new = {(each, lost | more) for each in package.meant(node, function)} - seen
            seen |= new
            pending += new
    return found


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_a_method_declares_just_what_it_raises(method: MethodDescriptor) -> None:
    said = set(declared.errors(method))

    assert sorted(faults_left_out(reachable(method)) - (ANY_CALL - said)) == sorted(said)


def test_no_error_of_a_service_escapes_the_search() -> None:
    owners = {policy.service_owner(service.full_name) for service in policy.SERVICES}
    written = {
        error for owner in owners for tree in parsed((ROOT / "svc" / owner).glob("*.py")) for error in raised(tree)
    }
    said = {error for method in METHODS for error in declared.errors(method)}

    assert set() == faults_left_out(written) - said - ANY_CALL


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
