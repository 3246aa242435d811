"""A method added to a contract with one option line: everything else about it is made, and nothing else is touched."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import grpc_tools
import pytest
from grpc_tools import protoc

from gateway import __main__ as program
from gateway import compiler, policy
from gateway.docs import site
from gateway.envoy import names
from gateway.envoy.edge import Edge
from gateway.envoy.filters import rbac
from weft_protos.xds import to_dict

from .conftest import ROOT

NAME = "weft.orders.v1.OrderService/FindOrder"
OPTION = 'option (weft.options.v1.policy) = {scopes: "orders.read"};'
METHOD = f"""
  // Finds an order of the caller's own. NOT_FOUND where there is none.
  rpc FindOrder(GetOrderRequest) returns (Order) {{
    option idempotency_level = NO_SIDE_EFFECTS;
    option (google.api.http) = {{get: "/v1/{{name=orders/*}}:find"}};
    {OPTION}
  }}

  // Takes back a whole order, or some pieces"""
CONTRACT = "weft/orders/v1/orders.proto"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A copy of the contracts with one method more."""
    copy = tmp_path_factory.mktemp("contracts") / "protos"
    shutil.copytree(ROOT / "protos", copy, ignore=shutil.ignore_patterns("gen", "py", "__pycache__"))
    text = (copy / CONTRACT).read_text()
    changed = text.replace("\n  // Takes back a whole order, or some pieces", METHOD, 1)
    assert text != changed
    (copy / CONTRACT).write_text(changed)
    return [copy, copy / "third_party", Path(grpc_tools.__file__).parent / "_proto"]


@pytest.fixture(scope="module")
def grown(roots: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy's descriptor set, with source info."""
    out = tmp_path_factory.mktemp("grown") / "contracts.binpb"
    sources = sorted(str(path.relative_to(roots[0])) for path in roots[0].glob("weft/**/*.proto"))
    command = ["protoc", *(f"-I{root}" for root in roots), f"--descriptor_set_out={out}", "--include_imports"]
    assert protoc.main([*command, "--include_source_info", *sources]) == 0
    return out


def test_the_contracts_with_it_keep_every_rule_and_break_nobody(grown: Path, descriptors: bytes) -> None:
    policies = compiler.check(grown.read_bytes(), against=descriptors)

    assert NAME in [rpc.name for rpc in policies.rpcs]


def test_it_is_routed_limited_and_guarded_over_grpc_and_json(grown: Path) -> None:
    bundle = compiler.compile_contracts(grown.read_bytes(), Edge())
    edge = [resource.message for resource in bundle.resources if resource.audience == "envoy"]
    routes = [
        route
        for message in edge
        if type(message).__name__ == "RouteConfiguration"
        for host in to_dict(message)["virtual_hosts"]
        for route in host["routes"]
    ]
    grpc, json_ = [route for route in routes if route.get("decorator", {}).get("operation") == NAME]

    assert f"/{NAME}" == grpc["match"]["path"]
    assert ("orders", "5s") == (grpc["route"]["cluster"], grpc["route"]["timeout"])
    assert "/v1/orders/[^/]+:find" == json_["match"]["safe_regex"]["regex"]
    for route in (grpc, json_):
        said = route["metadata"]["filter_metadata"]
        assert NAME == said["weft.limit"]["subject_class"]
        assert "rate_limit: 50 per 1s" == said["envoy.filters.http.lua"]["limit_rule"]
        assert "scopes: orders.read" == said["envoy.filters.http.lua"]["access_rule"]
        assert to_dict(rbac.for_scopes(["orders.read"]))["rbac"] == route["typed_per_filter_config"][names.RBAC]["rbac"]
    limiters = [resource for resource in bundle.resources if resource.name == names.SUBJECT_LIMIT]
    assert [True] == [NAME in json.dumps(to_dict(each.message)) for each in limiters]


def test_explain_and_plan_know_it(grown: Path, descriptors: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["explain", "FindOrder", "--json", "--descriptors", str(grown)]

    assert 0 == program.main([*asked, "--as", "orders.read"])
    said = json.loads(capsys.readouterr().out)
    assert ["orders.read"] == said["access"]
    assert "50 per 1 s for each subject, bursts of 100" == said["rate_limit"]
    assert 1 == program.main([*asked, "--as", ""])
    assert "TOKEN_MISSING" == json.loads(capsys.readouterr().out)["decision"]["reason"]
    plan = compiler.compare(descriptors, grown.read_bytes())
    assert [("+", NAME)] == [(change.sign, change.name) for change in plan.changes]
    assert "GET /v1/{name=orders/*}:find" in str(plan)


def test_the_reference_has_its_entry_with_examples(grown: Path) -> None:
    pages = compiler.document(grown.read_bytes(), sources="")
    page = pages["weft.orders.v1.OrderService.html"]
    entry = page[page.index('<h2 id="FindOrder">') : page.index('<h2 id="CancelOrder">')]

    assert "FindOrder" in pages[site.INDEX]
    for part in (
        "Finds an order of the caller&#39;s own.",
        "orders.read",
        "<code>NOT_FOUND</code>",
        "buf curl --schema . \\\n  --protocol grpc ",
        "--protocol grpcweb",
        "weft.orders.v1.OrderService/FindOrder",
        "http://127.0.0.1:8080/v1/orders/",
        ":find",
    ):
        assert part in entry, part


def test_the_access_matrix_of_the_live_mesh_calls_it(roots: list[Path], tmp_path: Path) -> None:
    # The matrix is made of the linked contracts: link the grown ones and ask it what it would call.
    generated = tmp_path / "gen"
    shutil.copytree(ROOT / "protos/gen", generated, ignore=shutil.ignore_patterns("__pycache__"))
    command = ["protoc", *(f"-I{root}" for root in roots), f"--python_out={generated}", CONTRACT]
    assert protoc.main(command) == 0
    matrix = "from tests.integration.test_edge_matrix import EVERY_METHOD as them\n"
    matrix += "print(*(one.full_name for one in them.args[1]))"
    program_text = f"import sys; sys.path[:0] = [{str(generated)!r}, {str(ROOT)!r}]\n{matrix}"
    done = subprocess.run(
        [sys.executable, "-c", program_text], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert 0 == done.returncode, done.stderr
    assert NAME.replace("/", ".") in done.stdout.split()


def test_without_its_option_line_it_does_not_build(grown: Path, roots: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "protos"
    shutil.copytree(roots[0], copy)
    text = (copy / CONTRACT).read_text()
    (copy / CONTRACT).write_text(text.replace(f"    {OPTION}\n", "", 1))
    out = tmp_path / "bare.binpb"
    includes = [copy, copy / "third_party", roots[2]]
    command = ["protoc", *(f"-I{root}" for root in includes), f"--descriptor_set_out={out}", "--include_imports"]
    assert protoc.main([*command, "--include_source_info", CONTRACT]) == 0

    with pytest.raises(compiler.CompileError, match="does not say who may call it"):
        compiler.check(out.read_bytes())


def test_the_method_is_found_by_its_short_name(grown: Path) -> None:
    policies = compiler.check(grown.read_bytes())

    assert NAME == policy.find(policies, "FindOrder").name
