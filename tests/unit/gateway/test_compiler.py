"""The compiler and its command line: bundles are whole, repeatable and named; mistakes end in one clear line."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import compiler, contract
from gateway.__main__ import main
from gateway.compiler import Bundle
from gateway.envoy.edge import Edge
from gateway.errors import CompileError, ContractUnreadableError, UnknownMethodError
from gateway.policy import PolicySet, find
from weft_protos.xds import message_class, to_dict


def _manifest(folder: Path) -> list[dict[str, Any]]:
    found = json.loads((folder / "manifest.json").read_text())
    assert compiler.FORMAT == found["format"]
    resources: list[dict[str, Any]] = found["resources"]
    return resources


def test_a_bundle_holds_every_resource_under_its_hash(bundle: Bundle, tmp_path: Path) -> None:
    compiler.write(bundle, tmp_path / "out")

    entries = _manifest(tmp_path / "out")
    for entry in entries:
        content = (tmp_path / "out/blobs" / entry["sha256"]).read_bytes()
        message = message_class(entry["type_url"].removeprefix("type.googleapis.com/")).FromString(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert entry["name"] == to_dict(message)["name"]
    assert len(bundle.resources) == len(entries)
    assert {
        "edge",
        "edge-tls",
        "rl_addr",
        "rl_sub",
        "envoy.filters.http.jwt_authn",
        "envoy.filters.http.grpc_json_transcoder",
        "weft.strict_json",
        "orders~streams",
    } == {entry["name"] for entry in entries if entry["audience"] == "envoy"}
    services = ["analytics", "catalog", "identity", "orders"]
    assert services == [entry["name"] for entry in entries if entry["audience"] == "all"]
    assert sorted([*services, *(f"grpc/{service}" for service in services)]) == sorted(
        entry["name"] for entry in entries if entry["audience"] == "grpc"
    )


def test_the_same_contracts_compile_to_the_same_bytes(descriptors: bytes, tmp_path: Path) -> None:
    for name in ("one", "two"):
        compiler.write(compiler.compile_contracts(descriptors, Edge()), tmp_path / name)

    assert _manifest(tmp_path / "one") == _manifest(tmp_path / "two")


def test_a_bundle_replaces_the_one_before_as_a_whole(bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    compiler.write(bundle, out)
    (out / "blobs/stale").touch()

    compiler.write(bundle, out)

    assert not (out / "blobs/stale").exists()
    assert [out] == list(tmp_path.iterdir())


def test_nothing_is_compiled_while_a_rule_is_broken(plant: Callable[[str], PolicySet]) -> None:
    text = 'syntax = "proto3"; package weft.shop.v1; message M {} service S { rpc R(M) returns (M); }'

    with pytest.raises(CompileError) as refused:
        compiler.emit(plant(text), Edge())

    assert 3 == len(refused.value.violations)
    assert "protos/weft/shop/v1/shop.proto:1: weft.shop.v1.S/R does not say who may call it; add" in str(refused.value)


def test_what_is_no_descriptor_set_is_refused() -> None:
    with pytest.raises(ContractUnreadableError, match="not a serialized FileDescriptorSet"):
        contract.load(b"\xff\xff")


def test_a_method_is_found_by_any_unambiguous_end(policies: PolicySet) -> None:
    full = "weft.orders.v1.OrderService/PlaceOrder"

    assert [full] * 4 == [
        find(policies, name).name for name in (full, f"/{full}", "OrderService.PlaceOrder", "PlaceOrder")
    ]
    with pytest.raises(UnknownMethodError, match="did you mean PlaceOrder"):
        find(policies, "PlaceOrdr")


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["compile", "--out", "{tmp}/b", "--port", "99999"], 2, "'99999' is not a port"),
        (["compile"], 2, "the following arguments are required: --out"),
        (["check", "--descriptors", "{tmp}/none.binpb"], 2, "none.binpb: No such file or directory"),
        (["check", "--descriptors", "{tmp}/garbage"], 2, "not a serialized FileDescriptorSet"),
        (["explain", "Nothing"], 2, "no contract has a method 'Nothing'"),
        (["explain", "GetOrder", "--as", "orders.fly"], 2, "no contract names the scope 'orders.fly'; known are"),
        (["comple"], 2, "invalid choice: 'comple'"),
        (["bootstrap", "--node", "g", "--xds", "nowhere"], 2, "'nowhere' is not host:port"),
    ],
)
def test_a_wrong_argument_ends_in_one_clear_line(
    argv: list[str], code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "garbage").write_bytes(b"\xff\xff")
    try:
        found = main([part.replace("{tmp}", str(tmp_path)) for part in argv])
    except SystemExit as left:
        found = int(left.code or 0)

    printed = capsys.readouterr().err
    assert code == found
    assert says in printed.strip().splitlines()[-1]
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "case",
    [
        ("PlaceOrder", "orders.write", True, None, "scopes: orders.write"),
        ("PlaceOrder", "orders.read, orders.write", True, None, "scopes: orders.write"),
        ("PlaceOrder", "orders.read mesh.operate", False, "SCOPE_MISSING", "scopes: orders.write"),
        ("PlaceOrder", "", False, "TOKEN_MISSING", "access: token"),
        ("CreateSession", "", True, None, "access: public"),
        ("CreateSession", "orders.read", True, None, "access: public"),
    ],
)
def test_whether_a_caller_may_call_is_read_from_the_contract(
    case: tuple[str, str, bool, str | None, str], capsys: pytest.CaptureFixture[str], policies: PolicySet
) -> None:
    method, scopes, allowed, reason, rule = case
    code = main(["explain", method, "--as", scopes, "--json"])

    decision = json.loads(capsys.readouterr().out)["decision"]
    assert {
        "as": sorted(scopes.replace(",", " ").split()),
        "allowed": allowed,
        "reason": reason,
        "rule": rule,
        "contract": find(policies, method).places["access"].contract,
    } == decision
    assert (0 if allowed else 1) == code == main(["explain", method, "--as", scopes])
    assert f"{'allowed' if allowed else 'refused':<17} {rule}" in capsys.readouterr().out


def test_commands_do_what_they_say(secret: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tls = ["--tls-cert", str(tmp_path / "edge.crt"), "--tls-key", str(tmp_path / "edge.key")]
    tls += ["--tls-secret", str(tmp_path / "edge-tls.json")]
    bootstrap = ["bootstrap", "--node", "gateway-2", "--xds", "127.0.0.1:1", "--xds", "[::1]:2", "--metrics-port", "3"]
    bootstrap += ["--zone", "rack-2"]
    bootstrap += ["--admin-socket", str(tmp_path / "a.sock"), *tls]

    assert 0 == main(["check"])
    assert 0 == main(["compile", "--out", str(tmp_path / "b"), "--port", "1234", "--tls-port", "1235"])
    told = json.loads(secret.read_text())
    assert 0 == main([*bootstrap, "--out", str(tmp_path / "boot.json")])
    assert 0 == main([*bootstrap, "--out", str(tmp_path / "boot.pb")])
    capsys.readouterr()
    assert 0 == main(["explain", "PlaceOrder", "--json"])

    said = json.loads(capsys.readouterr().out)
    assert ("orders", ["orders.write"], 3) == (said["service"], said["access"], said["max_attempts"])
    errors = [(error["code"], error["reason"]) for error in said["errors"]]
    assert ("FAILED_PRECONDITION", "OUT_OF_STOCK") in errors
    assert 0 == main(["explain", "PlaceOrder"])
    assert f"{'error':<17} FAILED_PRECONDITION OUT_OF_STOCK" in capsys.readouterr().out
    written = json.loads((tmp_path / "boot.json").read_text())
    bootstrap_class = message_class("envoy.config.bootstrap.v3.Bootstrap")
    assert written == to_dict(bootstrap_class.FromString((tmp_path / "boot.pb").read_bytes()))
    assert told == json.loads(secret.read_text())
    assert ("gateway-2", {"kind": "envoy"}) == (written["node"]["id"], written["node"]["metadata"])
    assert {"zone": "rack-2"} == written["node"]["locality"]
    listeners = [
        entry for entry in _manifest(tmp_path / "b") if entry["name"] == "edge" and "Listener" in entry["type_url"]
    ]
    content = (tmp_path / "b/blobs" / listeners[0]["sha256"]).read_bytes()
    listener = message_class("envoy.config.listener.v3.Listener").FromString(content)
    assert 1234 == to_dict(listener)["address"]["socket_address"]["port_value"]


def test_a_profile_decides_what_is_compiled(tmp_path: Path) -> None:
    for flags, names in (
        ((), ["edge", "edge-tls"]),
        (("--profile", "production"), ["edge-tls"]),
        (("--profile", "production", "--port", "81"), ["edge", "edge-tls"]),
    ):
        assert 0 == main(["compile", "--out", str(tmp_path / "b"), *flags])
        found = [entry["name"] for entry in _manifest(tmp_path / "b") if "Listener" in entry["type_url"]]

        assert names == [name for name in found if name.startswith("edge")]
