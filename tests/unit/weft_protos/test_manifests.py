"""Manifests of services and workers: what they say, and what is refused with file and key."""

from pathlib import Path

import pytest

from weft_protos import manifests, mesh_parts
from weft_protos.manifests import ManifestError, Service

SERVED = (Service("orders", 2, None), Service("pages", 1, None, has_database=False))


def manifest(root: Path, name: str, text: str, *, file: str = manifests.WORKER_FILE) -> Path:
    (root / name).mkdir()
    (root / name / file).write_text(text)
    return root


def test_a_folder_with_a_manifest_is_a_service_and_one_without_is_none(tmp_path: Path) -> None:
    manifest(tmp_path, "parcels", "", file=manifests.SERVICE_FILE)
    manifest(tmp_path, "orders", "instances = 2\nautoscale = [2, 4]\n", file=manifests.SERVICE_FILE)
    (tmp_path / "chassis").mkdir()

    assert (Service("orders", 2, (2, 4)), Service("parcels", 1, None)) == manifests.services(tmp_path)


def test_a_service_keeps_something_unless_its_manifest_says_otherwise(tmp_path: Path) -> None:
    manifest(tmp_path, "pages", "database = false", file=manifests.SERVICE_FILE)

    assert (Service("pages", 1, None, has_database=False),) == manifests.services(tmp_path)


def test_a_service_cannot_work_on_the_database_of_another(tmp_path: Path) -> None:
    manifest(tmp_path, "pages", 'database = "orders"', file=manifests.SERVICE_FILE)

    with pytest.raises(ManifestError, match="database is 'orders'; say false where it keeps nothing"):
        manifests.services(tmp_path)


def test_a_worker_that_shares_a_service_s_name_has_another_as_a_process(tmp_path: Path) -> None:
    manifest(tmp_path, "orders", 'database = "orders"')
    manifest(tmp_path, "letters", "")

    letters, orders = manifests.workers(tmp_path, SERVED)

    assert ("letters", "letters", True) == (letters.process, letters.database, letters.migrates)
    assert ("orders-worker", "orders", False) == (orders.process, orders.database, orders.migrates)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instances = 0", "instances is 0; give a number from 1 to 32"),
        ("instances = true", "instances is True"),
        ('instances = "two"', "instances is 'two'"),
        ("instances = 5\nautoscale = [1, 3]\nbacklog = 10", "instances is 5, outside of autoscale, 1 to 3"),
        ("autoscale = [3]\nbacklog = 10", "autoscale is [3]; give two numbers"),
        ("autoscale = [1, 3]", "autoscale and backlog go together"),
        ("backlog = -1\nautoscale = [1, 2]", "backlog is -1"),
        ('events = "some"', "events is 'some'"),
        ('database = "nowhere"', "database is 'nowhere'; services with one are orders"),
        ('database = "pages"', "database is 'pages'; services with one are orders"),
        ("instanzes = 2", "instanzes means nothing here; known are"),
        ("instances = = 2", "line 1"),
    ],
)
def test_what_a_manifest_cannot_mean_is_refused_with_its_file(tmp_path: Path, text: str, message: str) -> None:
    manifest(tmp_path, "letters", text)

    with pytest.raises(ManifestError) as refused:
        manifests.workers(tmp_path, SERVED)

    assert f"{tmp_path}/letters/worker.toml: " in str(refused.value)
    assert message in str(refused.value)


def test_a_worker_beside_a_service_of_its_name_has_to_name_its_database(tmp_path: Path) -> None:
    manifest(tmp_path, "orders", "")

    with pytest.raises(ManifestError, match="database is missing"):
        manifests.workers(tmp_path, SERVED)


def test_every_package_of_a_service_and_every_handler_has_a_manifest() -> None:
    root = Path(__file__).resolve().parents[3]
    served = {path.parent.name for path in root.glob("svc/*/wiring.py")}
    working = {path.parent.name for path in root.glob("worker/handlers/*/handler.py")}

    assert served == {one.name for one in mesh_parts.SERVICES}
    assert working == {one.name for one in mesh_parts.WORKERS}
