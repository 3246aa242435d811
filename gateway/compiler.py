"""The passes, in order: read this first.

`compile_contracts` is pure; `write` puts its bundle where `python -m lb publish` finds it, whole or not at all.
"""

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway import contract, policy, rules
from gateway.envoy import resources
from gateway.envoy.listener import Edge
from gateway.envoy.resources import Resource
from gateway.errors import CompileError
from gateway.policy import PolicySet
from weft_protos.xds import type_url

#: Version of the bundle's layout.
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Bundle:
    """What one set of contracts compiles to."""

    methods: int
    resources: tuple[Resource, ...]


def compile_contracts(descriptors: bytes, edge: Edge) -> Bundle:
    """Contracts to resources. Raises CompileError and ContractUnreadableError."""
    return emit(policy.resolve(contract.load(descriptors)), edge)


def check(descriptors: bytes) -> PolicySet:
    """Contracts that keep the rules. Raises CompileError and ContractUnreadableError."""
    return _kept(policy.resolve(contract.load(descriptors)))


def emit(policies: PolicySet, edge: Edge) -> Bundle:
    """Effective policies to resources. Raises CompileError where they break rules."""
    return Bundle(len(policies.rpcs), tuple(resources.build(_kept(policies), edge)))


def _kept(policies: PolicySet) -> PolicySet:
    violations = rules.check(policies)
    if violations:
        raise CompileError(violations)
    return policies


def write(bundle: Bundle, out: Path) -> None:
    """Replace the directory `out` by the bundle. Raises OSError; then `out` is what it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        _fill(bundle, staged)
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
