"""Who uses what, on a running mesh: named by the caller, noted by the instances, told by the command line."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.field_mask_pb2 import FieldMask

from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from tests.integration.edge_calls import INVALID, Edge, Json, Target, method
from tests.integration.edge_calls import edge as edge
from tests.integration.shop import Shop
from tests.integration.weft_command import weft_here
from tests.waiting import eventually
from weft.catalog.v1 import catalog_pb2
from weft_protos import consumer

pytestmark = pytest.mark.calls

GET = "weft.catalog.v1.CatalogService/GetProduct"


@pytest.fixture(scope="module")
def shop(mesh: Mesh, operator: GatewayClient) -> Shop:
    return Shop(mesh, operator)


def contracts(mesh: Mesh, *arguments: str, code: int = 0) -> Any:
    done = weft_here(mesh.secrets.parent, "contracts", *arguments, "--json")
    assert code == done.returncode, done.stderr
    return json.loads(done.stdout)


def methods_of(mesh: Mesh, name: str) -> dict[str, Any]:
    found = contracts(mesh, "consumers")["consumers"]
    return {one["method"]: one for each in found if each["name"] == name for one in each["methods"]}


def read(product: str, *paths: str) -> Target:
    request = catalog_pb2.GetProductRequest(name=f"products/{product}", read_mask=FieldMask(paths=paths))
    return Target.of(method("GetProduct"), request)


def test_a_consumer_that_names_itself_is_listed_with_the_fields_it_uses(edge: Edge, shop: Shop, mesh: Mesh) -> None:
    product, name = shop.product(), f"reader-{shop.run}"
    said = dict([consumer.declare(name, "1.0")])
    for wire in edge.wires:
        assert 0 == wire.call(read(product, "display_name"), edge.token("catalog.read"), said).code

    eventually(lambda: GET in methods_of(mesh, name))
    noted = methods_of(mesh, name)[GET]
    assert {"name", "read_mask"} == set(noted["sent"])
    assert {"display_name"} == set(noted["read"])
    (listed,) = [each for each in contracts(mesh, "consumers")["consumers"] if each["name"] == name]
    assert ("1.0", consumer.contract_hash(), True) == (listed["version"], listed["contract"], listed["current"])


def test_the_check_names_the_consumer_of_a_field_and_nobody_for_one_it_does_not_read(
    edge: Edge, shop: Shop, mesh: Mesh, tmp_path: Path
) -> None:
    product, name = shop.product(), f"pricer-{shop.run}"
    said = dict([consumer.declare(name, "2")])
    assert 0 == edge.wires[0].call(read(product, "price"), edge.token("catalog.read"), said).code
    eventually(lambda: GET in methods_of(mesh, name))

    files = FileDescriptorSet.FromString((Path(__file__).parents[2] / "protos/gen/contracts.binpb").read_bytes())
    catalog = next(file for file in files.file if file.name == "weft/catalog/v1/catalog.proto")
    kept = next(message for message in catalog.message_type if message.name == "Product")
    fields = [field for field in kept.field if field.name not in ("display_name", "price")]
    del kept.field[:]
    kept.field.extend(fields)
    changed = tmp_path / "changed.binpb"
    changed.write_bytes(files.SerializeToString())
    found = contracts(mesh, "check", "--descriptors", str(changed), "--consumers", "running", code=1)["violations"]

    uses = {
        field: [(use["method"], use["how"]) for use in each["consumers"] if use["consumer"].startswith(f"{name}/2;")]
        for field in ("display_name", "price")
        for each in found
        if f'"{field}" on message "Product" was deleted' in each["message"]
    }
    assert {"display_name": [], "price": [(GET, "asks for price")]} == uses


def test_the_check_names_the_workers_that_consume_an_event(shop: Shop, mesh: Mesh, tmp_path: Path) -> None:
    placed, product = "weft.orders.v1.OrderPlaced", shop.product()
    shop.place(shop.customer(), {product: 1})
    workers = ("analytics-worker", "archive-worker", "audit-worker", "email-worker")
    eventually(lambda: all(placed in methods_of(mesh, name) for name in workers))

    files = FileDescriptorSet.FromString((Path(__file__).parents[2] / "protos/gen/contracts.binpb").read_bytes())
    events = next(file for file in files.file if file.name == "weft/orders/v1/events.proto")
    kept = [message for message in events.message_type if message.name != "OrderPlaced"]
    del events.message_type[:]
    events.message_type.extend(kept)
    changed = tmp_path / "changed.binpb"
    changed.write_bytes(files.SerializeToString())
    found = contracts(mesh, "check", "--descriptors", str(changed), "--consumers", "running", code=1)["violations"]

    uses = [
        (use["consumer"].partition(";")[0], use["how"])
        for each in found
        if '"OrderPlaced" was deleted' in each["message"]
        for use in each["consumers"]
    ]
    assert [(name, "consumes it") for name in workers] == sorted(uses)


def test_what_an_instance_noted_outlives_it(edge: Edge, shop: Shop, mesh: Mesh) -> None:
    product, name = shop.product(), f"stayer-{shop.run}"
    said = dict([consumer.declare(name)])
    assert 0 == edge.wires[0].call(read(product), edge.token("catalog.read"), said).code
    eventually(lambda: GET in methods_of(mesh, name))

    for process in [one.name for one in mesh.status().processes if one.service == "catalog" and one.kind == "service"]:
        mesh.restart(process)

    def answered() -> bool:
        return edge.wires[0].call(read(product), edge.token("catalog.read")).code == 0

    eventually(answered)
    assert {"*"} == set(methods_of(mesh, name)[GET]["read"])


def test_a_read_mask_cuts_the_answer_down_on_every_wire(edge: Edge, shop: Shop) -> None:
    product = shop.product(name="White mug")
    answers = edge.everywhere(read(product, "display_name"), edge.token("catalog.read"))

    expected = (catalog_pb2.Product(display_name="White mug"),)
    assert dict.fromkeys(answers, expected) == {wire: answer.answers for wire, answer in answers.items()}


def test_a_wrong_read_mask_is_refused_with_its_path_on_every_wire(edge: Edge, shop: Shop) -> None:
    answer = edge.refused(read(shop.product(), "colour"), edge.token("catalog.read"), http=400)

    assert INVALID == answer.code


def test_json_takes_a_read_mask_as_a_list_with_commas(edge: Edge, shop: Shop) -> None:
    product = shop.product(name="Red mug")
    (wire,) = [one for one in edge.wires if isinstance(one, Json)]
    for asked in ("display_name,name", "displayName,name"):
        target = Target("", b"", "GET", f"/v1/products/{product}?read_mask={asked}", None, catalog_pb2.Product)
        answer = wire.call(target, edge.token("catalog.read"))
        expected = catalog_pb2.Product(name=f"products/{product}", display_name="Red mug")
        assert (expected,) == answer.answers


@pytest.mark.parametrize("said", ["../../etc", "a" * 5000, "Shop Web <script>", "shop; contract=nothex"])
def test_a_name_that_is_none_does_no_harm(edge: Edge, shop: Shop, mesh: Mesh, said: str) -> None:
    product = shop.product()

    assert 0 == edge.wires[0].call(read(product), edge.token("catalog.read"), {consumer.HEADER: said}).code
    assert all(said not in json.dumps(each) for each in contracts(mesh, "consumers")["consumers"])


def test_a_name_opens_nothing(shop: Shop, mesh: Mesh) -> None:
    with grpc.insecure_channel(mesh.gateway) as channel:
        read_one: Any = consumer.named(channel, "weft-cli", "0.1.0").unary_unary(f"/{GET}")
        with pytest.raises(grpc.RpcError) as refused:
            read_one(catalog_pb2.GetProductRequest(name="products/x").SerializeToString(), timeout=20)

    assert grpc.StatusCode.UNAUTHENTICATED is refused.value.code()
