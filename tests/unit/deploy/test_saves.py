"""What a save means for a running mesh, and what is wrong with it before anything is touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from deploy.cli import dev, saves
from deploy.cli.saves import Meaning, Parts
from weft_protos import mesh_parts
from weft_protos.manifests import Service, Worker


def worker(name: str, process: str, database: str) -> Worker:
    return Worker(
        name, process, 1, None, database=database, migrates=False, of_all=False, backlog=None, notes="", needs=()
    )


PARTS = Parts(
    services=[Service("catalog", 2, None), Service("orders", 2, None)],
    workers=[worker("orders", "orders-worker", "orders"), worker("email", "email", "email")],
    links={"orders": {"catalog", "orders"}, "catalog": {"catalog"}, "email": {"orders"}},
)
ALL = frozenset({"catalog", "orders", "relay", "orders-worker", "email"})
EVERY = ALL | {"control-plane"}


@pytest.mark.parametrize(
    ("saved", "meaning"),
    [
        ("svc/catalog/rpc.py", Meaning(restart=frozenset({"catalog"}))),
        (
            "svc/catalog/migrations/versions/0009_more.py",
            Meaning(restart=frozenset({"catalog"}), migrate=frozenset({"catalog"})),
        ),
        ("svc/chassis/server.py", Meaning(restart=ALL)),
        ("lb/channel.py", Meaning(restart=EVERY)),
        ("lb/xds/server.py", Meaning(restart=EVERY)),
        ("protos/py/weft_protos/policy.py", Meaning(restart=EVERY, compiler=True)),
        ("worker/handlers/orders/handler.py", Meaning(restart=frozenset({"orders-worker"}))),
        ("worker/relay.py", Meaning(restart=frozenset({"relay", "orders-worker", "email"}))),
        ("gateway/envoy/filters/refusal.lua", Meaning(compiler=True)),
        ("gateway/rules.py", Meaning(compiler=True)),
        ("protos/weft/catalog/v1/catalog.proto", Meaning(contracts=True, restart=frozenset({"catalog", "orders"}))),
        ("protos/weft/orders/v1/events.proto", Meaning(contracts=True, restart=frozenset({"orders", "email"}))),
        ("protos/weft/options/v1/policy.proto", Meaning(contracts=True, restart=EVERY)),
        ("svc/catalog/service.toml", Meaning(manifests=True)),
        ("svc/parcels/service.toml", Meaning(manifests=True)),
        ("svc/parcels/rpc.py", Meaning()),
        ("svc/contract_tests/mock.py", Meaning()),
        ("tests/unit/test_x.py", Meaning()),
    ],
)
def test_a_save_reaches_those_who_run_it_and_nobody_else(saved: str, meaning: Meaning) -> None:
    found = PARTS.meaning([saved])

    assert meaning == found
    assert (meaning != Meaning()) == bool(found)


@pytest.mark.parametrize(
    "saved",
    [
        "protos/weft/parcels/v1/parcels.proto",
        "protos/weft/parcels/v1/events.proto",
        "svc/parcels/rpc.py",
        "svc/parcels/migrations/versions/0001_parcels.py",
        "worker/handlers/parcels/handler.py",
    ],
)
def test_a_service_that_the_mesh_does_not_have_waits_for_its_next_start(saved: str) -> None:
    assert Meaning(manifests=True) == replace(PARTS, waiting={"parcels"}).meaning([saved])


def test_what_is_saved_at_once_is_done_at_once() -> None:
    found = PARTS.meaning(["svc/catalog/rpc.py", "svc/orders/model.py", "gateway/plan.py"])

    assert Meaning(restart=frozenset({"catalog", "orders"}), compiler=True) == found


def test_code_tells_whose_contracts_it_links() -> None:
    source = "from weft.orders.v1 import orders_pb2\n    from weft.catalog.v1.events_pb2 import X\nimport weft"

    assert {"orders", "catalog"} == saves.linked([source])


def test_whoever_has_a_manifest_and_no_place_in_the_mesh_is_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "svc" / "parcels").mkdir(parents=True)
    (tmp_path / "svc" / "parcels" / "service.toml").write_text("instances = 2\n")
    # Served by a program that joins the mesh by itself.
    (tmp_path / "protos" / "weft" / "shipping").mkdir(parents=True)
    monkeypatch.setattr(dev, "PROJECT", tmp_path)
    everybody = {one.name for one in mesh_parts.SERVICES}

    assert {"parcels"} == dev.parts().waiting
    assert {"parcels", *everybody} - {"orders"} == dev.parts({"orders", "relay"}).waiting


def test_the_mesh_s_own_parts_are_known_with_what_they_link() -> None:
    parts = dev.parts()

    assert set() == parts.waiting
    assert {"catalog", "orders"} <= set(parts.links["orders"])
    assert {"email", "analytics-worker"} <= parts.meaning(["protos/weft/orders/v1/events.proto"]).restart


def test_code_that_cannot_be_compiled_is_named_with_its_line(tmp_path: Path) -> None:
    for name, text in (("svc/catalog/rpc.py", "x = 1\ndef (:\n"), ("svc/catalog/model.py", "x = 1\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    assert ["svc/catalog/rpc.py:2: invalid syntax"] == dev.code_faults(
        tmp_path, ["svc/catalog/rpc.py", "svc/catalog/model.py", "svc/catalog/gone.py"]
    )


def test_a_manifest_that_means_nothing_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "svc/catalog").mkdir(parents=True)
    (tmp_path / "svc/catalog/service.toml").write_text("instances = 99\n")

    (fault,) = dev.code_faults(tmp_path, ["svc/catalog/service.toml"])

    assert "svc/catalog/service.toml: instances is 99; give a number from 1 to 32" == fault


def test_what_an_editor_leaves_beside_the_code_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "PROJECT", tmp_path)
    folder = tmp_path / "svc" / "catalog"
    folder.mkdir(parents=True)
    (folder / "rpc.py").write_text("from weft.orders.v1 import orders_pb2\n")
    (folder / "broken.py").write_bytes(b'from weft.identity.v1 import x\nX = "\xff"\n')
    (folder / ".#rpc.py").symlink_to("somebody@somewhere.1:2")

    (fault,) = dev.code_faults(tmp_path, ["svc/catalog/rpc.py", "svc/catalog/broken.py", "svc/catalog/.#rpc.py"])

    assert {"orders", "identity"} == dev.parts().links["catalog"]
    assert fault.startswith("svc/catalog/broken.py:")
