"""The contracts that this instance is linked with, as data. Pure; made once, when they are first asked for.

What is served is what the descriptors say, with their comments: the set that the gateway's configuration is compiled
from. Samples keep every rule of the contract; whether the mesh has what they name is another matter.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from google.api import annotations_pb2
from google.api.http_pb2 import HttpRule
from google.protobuf import descriptor_pool, json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import (
    FileDescriptorProto,
    FileDescriptorSet,
    MethodOptions,
    ServiceDescriptorProto,
)

from weft.operations.v1 import contracts_pb2
from weft_protos import locations, policy
from weft_protos.sample_requests import Samples

METHODS: Final = "methods/"
SCHEMA: Final = "schemas/current"
#: Files whose comments are for those who call.
OURS: Final = "weft/"


class _Asked(NamedTuple):
    request: str
    bindings: Sequence[contracts_pb2.HttpBinding]


class Contracts:
    """Every method of the linked contracts, and the contracts themselves."""

    @cached_property
    def methods(self) -> Mapping[str, contracts_pb2.Method]:
        """By resource name, in the order of names."""
        comments = _comments(FileDescriptorSet.FromString(self._set))
        samples = Samples(descriptor_pool.Default())
        made = [
            _method(method, comments.get(method.full_name, ""), samples)
            for service in policy.SERVICES
            for method in service.methods
        ]
        return {method.name: method for method in sorted(made, key=lambda each: each.name)}

    @cached_property
    def schema(self) -> contracts_pb2.Schema:
        """All of them."""
        return contracts_pb2.Schema(name=SCHEMA, descriptor_set=self._set, sha256=hashlib.sha256(self._set).hexdigest())

    @cached_property
    def _set(self) -> bytes:
        """The descriptor set; without the lines of the sources, which are most of it, but with their comments."""
        try:
            found = FileDescriptorSet.FromString(locations.contracts().read_bytes())
        except OSError:
            found = _linked()
        for file in found.file:
            ours = file.name.startswith(OURS)
            said = [each for each in file.source_code_info.location if ours and each.leading_comments]
            file.ClearField("source_code_info")
            for each in said:
                file.source_code_info.location.add(path=each.path, leading_comments=each.leading_comments)
        return found.SerializeToString(deterministic=True)


def _linked() -> FileDescriptorSet:
    """The contracts as generated code has them: without comments."""
    found, names = FileDescriptorSet(), set[str]()
    waiting = [(file, False) for file in reversed(policy.FILES)]
    while waiting:
        file, ready = waiting.pop()
        if file.name in names:
            continue
        if not ready:
            waiting += [(file, True), *((each, False) for each in file.dependencies)]
            continue
        names.add(file.name)
        file.CopyToProto(found.file.add())
    return found


def _comments(found: FileDescriptorSet) -> Mapping[str, str]:
    """What is said about each method, by its full name."""
    said = {}
    for file in found.file:
        places = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
        for index, service in enumerate(file.service):
            for number, method in enumerate(service.method):
                path = (
                    *(FileDescriptorProto.SERVICE_FIELD_NUMBER, index),
                    *(ServiceDescriptorProto.METHOD_FIELD_NUMBER, number),
                )
                said[f"{file.package}.{service.name}.{method.name}"] = places.get(path, "")
    return said


def _method(method: MethodDescriptor, comment: str, samples: Samples) -> contracts_pb2.Method:
    rules, contract = policy.effective(method), method.containing_service
    bindings = _bindings(method)
    sample = samples.request(_Asked(method.input_type.full_name, bindings))
    level, age_s = policy.consistency(rules)
    repeat = MethodOptions.IdempotencyLevel.Name(method.GetOptions().idempotency_level)
    return contracts_pb2.Method(
        name=METHODS + method.full_name,
        path=f"/{contract.full_name}/{method.name}",
        service=policy.service_owner(contract.full_name),
        contract=contract.full_name,
        bindings=bindings,
        request_type=method.input_type.full_name,
        response_type=method.output_type.full_name,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        policy=rules,
        comment="\n".join(line.strip() for line in comment.strip().splitlines()),
        sample_request_json="" if sample is None else json_format.MessageToJson(sample),
        idempotency_level="" if repeat == "IDEMPOTENCY_UNKNOWN" else repeat,
        timeout_seconds=rules.timeout.ToTimedelta().total_seconds(),
        consistency=f"bounded {age_s:g} s" if level == "bounded" else level,
        location=locations.method(method),
    )


def _bindings(method: MethodDescriptor) -> list[contracts_pb2.HttpBinding]:
    rule: HttpRule = method.GetOptions().Extensions[annotations_pb2.http]
    made = []
    for each in (rule, *rule.additional_bindings):
        verb = each.WhichOneof("pattern")
        if verb is None:
            continue
        template = each.custom.path if verb == "custom" else getattr(each, verb)
        made.append(contracts_pb2.HttpBinding(verb=verb.upper(), template=template, body=each.body))
    return made
