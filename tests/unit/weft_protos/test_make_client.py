"""What is generated for the client: names, types, and what it refuses."""

import ast
from pathlib import Path

import make_client
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet

from weft.options.v1 import policy_pb2
from weft_protos import naming

TEXT = FieldDescriptorProto.TYPE_STRING
NUMBER = FieldDescriptorProto.TYPE_INT64
INSIDE = FieldDescriptorProto.TYPE_MESSAGE


def contract() -> FileDescriptorProto:
    """A service `weft.mills.v1.MillService` with one method, `GrindFlour`, whose request has no field yet."""
    file = FileDescriptorProto(name="weft/mills/v1/mills.proto", package="weft.mills.v1", syntax="proto3")
    file.message_type.add(name="GrindFlourRequest")
    file.message_type.add(name="Flour")
    service = file.service.add(name="MillService")
    service.method.add(
        name="GrindFlour", input_type=".weft.mills.v1.GrindFlourRequest", output_type=".weft.mills.v1.Flour"
    )
    return file


def generated(file: FileDescriptorProto, folder: Path) -> str:
    descriptors = folder / "contracts.binpb"
    descriptors.write_bytes(FileDescriptorSet(file=[file]).SerializeToString())
    make_client.write(descriptors, folder / "gen")
    return (folder / "gen" / "mills.py").read_text()


def arguments(text: str) -> dict[str, str]:
    """The arguments of the method that threads call, with their types."""
    (found,) = (
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef) and node.name == "grind_flour"
    )
    every = (*found.args.args, *found.args.kwonlyargs)
    return {one.arg: ast.unparse(one.annotation) for one in every if one.annotation is not None}


@pytest.mark.parametrize(
    ("package", "service", "stem"),
    [
        ("weft.catalog.v1", "CatalogService", "catalog"),
        ("weft.orders.v1", "OrderService", "orders"),
        ("weft.orders.v1", "InventoryService", "inventory"),
        ("weft.mills.v1", "WindMill", "wind_mill"),
        ("weft.catalog.v2", "CatalogService", "catalog_v2"),
    ],
)
def test_a_service_is_called_by_its_own_name_or_its_package_s(package: str, service: str, stem: str) -> None:
    assert stem == naming.stem(package, service)


def test_fields_are_arguments_with_python_s_types(tmp_path: Path) -> None:
    file = contract()
    request = file.message_type[0]
    entry = request.nested_type.add(name="WeightsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=TEXT)
    entry.field.add(name="value", number=2, type=NUMBER)
    request.field.add(name="corn", number=1, type=TEXT)
    request.field.add(name="sacks", number=2, type=NUMBER, label=FieldDescriptorProto.LABEL_REPEATED)
    request.field.add(name="flour", number=3, type=INSIDE, type_name=".weft.mills.v1.Flour")
    request.field.add(
        name="weights",
        number=4,
        type=INSIDE,
        label=FieldDescriptorProto.LABEL_REPEATED,
        type_name=".weft.mills.v1.GrindFlourRequest.WeightsEntry",
    )

    assert {
        "corn": "str | None",
        "sacks": "Sequence[int] | None",
        "flour": "mills_pb2.Flour | Mapping[str, Any] | None",
        "weights": "Mapping[str, int] | None",
        "timeout": "float | None",
    } == arguments(generated(file, tmp_path))


def test_a_field_that_python_has_another_use_for_gets_a_name_beside(tmp_path: Path) -> None:
    file = contract()
    for number, name in enumerate(("from", "timeout", "self"), 1):
        file.message_type[0].field.add(name=name, number=number, type=TEXT)

    text = generated(file, tmp_path)

    assert ["from_", "timeout_", "self_", "timeout"] == list(arguments(text))
    assert '{"from": from_, "timeout": timeout_, "self": self_}' in text


def test_a_comment_cannot_end_the_docstring_it_stands_in(tmp_path: Path) -> None:
    file = contract()
    file.source_code_info.location.add(path=[6, 0, 2, 0], span=[1, 1, 1], leading_comments='Grinds """\\d+""" of it.')

    text = generated(file, tmp_path)

    assert "Grinds '''" in text
    ast.parse(text)


def test_a_stream_of_requests_is_refused_by_name(tmp_path: Path) -> None:
    file = contract()
    file.service[0].method[0].client_streaming = True

    with pytest.raises(make_client.UnsupportedError, match=r"MillService\.GrindFlour"):
        generated(file, tmp_path)


def test_two_services_of_one_name_are_refused(tmp_path: Path) -> None:
    file = contract()
    file.service.add(name="MillsService")

    with pytest.raises(make_client.UnsupportedError, match="mills is something else"):
        generated(file, tmp_path)


def test_a_reason_with_two_codes_is_two_exceptions_and_one_above(tmp_path: Path) -> None:
    file = contract()
    policy = file.service[0].method[0].options.Extensions[policy_pb2.policy]
    policy.errors.add(code="NOT_FOUND", reason="NO_CORN", comment="there is none")
    policy.errors.add(code="FAILED_PRECONDITION", reason="NO_CORN")
    generated(file, tmp_path)

    text = (tmp_path / "gen" / "errors.py").read_text()

    assert "class NoCorn(WeftError):" in text
    assert "class NoCornNotFound(NoCorn, NotFound):" in text
    assert "class NoCornFailedPrecondition(NoCorn, FailedPrecondition):" in text
