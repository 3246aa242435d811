"""The passes, in order: read this first.

`compile_contracts` is pure; `write` puts its bundle where `python -m lb publish` finds it, whole or not at all.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message import DecodeError

from gateway import breaking, contract, plan, policy, rules, slo
from gateway.docs import site
from gateway.envoy import names, resources
from gateway.envoy.edge import Edge
from gateway.envoy.resources import Resource
from gateway.errors import CompileError, ContractUnreadableError
from gateway.policy import PolicySet
from weft_protos.xds import message_class, type_url

#: Version of the bundle's layout.
FORMAT: Final = 1

_EXTENSION: Final = "envoy.config.core.v3.TypedExtensionConfig"
_TRANSCODER: Final = "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one set of contracts compiles to."""

    methods: int
    resources: tuple[Resource, ...]


def compile_contracts(descriptors: bytes, edge: Edge) -> Bundle:
    """Contracts to resources. Raises CompileError and ContractUnreadableError."""
    return emit(policy.resolve(contract.load(descriptors)), edge)


def check(descriptors: bytes, *, against: bytes | None = None) -> PolicySet:
    """Contracts that keep the rules, and break nobody who relies on `against`. Raises as `compile_contracts` does."""
    policies = policy.resolve(contract.load(descriptors))
    violations = rules.check(policies)
    if against is not None:
        violations += breaking.check(policy.resolve(contract.load(against)), policies)
    if violations:
        raise CompileError(violations)
    return policies


def compare(before: bytes, after: bytes) -> plan.Plan:
    """What changes with the contracts `after`. Raises ContractUnreadableError."""
    return plan.make(policy.resolve(contract.load(before)), policy.resolve(contract.load(after)))


def document(descriptors: bytes, *, sources: str) -> Mapping[str, str]:
    """The reference site, by file name; links to lines begin with `sources`. Raises as `compile_contracts` does."""
    found = contract.load(descriptors)
    policies = _kept(policy.resolve(found))
    return site.render(found, policies, FileDescriptorSet.FromString(descriptors), sources=sources)


def watch(descriptors: bytes) -> str:
    """The Prometheus rules that watch the contracts' objectives. Raises as `compile_contracts` does."""
    return slo.render(_kept(policy.resolve(contract.load(descriptors))))


def emit(policies: PolicySet, edge: Edge) -> Bundle:
    """Effective policies to resources. Raises CompileError where they break rules."""
    return Bundle(len(policies.rpcs), tuple(resources.build(_kept(policies), edge)))


def _kept(policies: PolicySet) -> PolicySet:
    violations = rules.check(policies)
    if violations:
        raise CompileError(violations)
    return policies


def read_descriptors(path: Path) -> bytes:
    """The contracts in a file, or those that a bundle was compiled from. Raises ContractUnreadableError and OSError."""
    if not path.is_dir():
        return path.read_bytes()
    try:
        entries = json.loads((path / "manifest.json").read_bytes())["resources"]
        digest = next(str(entry["sha256"]) for entry in entries if entry["name"] == names.TRANSCODER)
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ContractUnreadableError(f"{path} is not a bundle that carries its contracts") from error
    try:
        extension: Any = message_class(_EXTENSION).FromString((path / "blobs" / Path(digest).name).read_bytes())
        transcoder: Any = message_class(_TRANSCODER).FromString(extension.typed_config.value)
    except DecodeError as error:
        raise ContractUnreadableError(f"{path}: the blob {digest} is damaged") from error
    found: bytes = transcoder.proto_descriptor_bin
    return found


def write(bundle: Bundle, out: Path) -> None:
    """Replace the directory `out` by the bundle. Raises OSError; then `out` is what it was."""
    _replace(out, lambda staged: _fill(bundle, staged))


def write_pages(pages: Mapping[str, str], out: Path) -> None:
    """Replace the directory `out` by the pages. Raises OSError; then `out` is what it was."""

    def fill(staged: Path) -> None:
        for name, content in pages.items():
            (staged / name).write_text(content, encoding="utf-8")

    _replace(out, fill)


def _replace(out: Path, fill: Callable[[Path], None]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        fill(staged)
        staged.chmod(0o755)
        replaced = staged.with_name(f"{staged.name}-replaced")
        if out.exists():
            out.rename(replaced)
        staged.rename(out)
        shutil.rmtree(replaced, ignore_errors=True)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def _fill(bundle: Bundle, folder: Path) -> None:
    blobs = folder / "blobs"
    blobs.mkdir()
    entries = []
    for resource in bundle.resources:
        content = resource.message.SerializeToString(deterministic=True)
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        entries.append(
            {
                "audience": resource.audience,
                "type_url": type_url(resource.message),
                "name": resource.name,
                "sha256": digest,
            }
        )
    entries.sort(key=lambda entry: (entry["type_url"], entry["audience"], entry["name"]))
    manifest = json.dumps({"format": FORMAT, "resources": entries}, indent=1) + "\n"
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
