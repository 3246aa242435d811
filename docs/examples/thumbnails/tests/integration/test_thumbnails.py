"""The thumbnails service on a real database, and through the gateway of a running mesh."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from PIL import Image as Pillow

import svc.thumbnails
from deploy.cli.gateway_client import GatewayClient
from deploy.supervisor.mesh import Mesh
from svc.chassis import migrate
from svc.chassis.context import Deadline
from svc.chassis.database import Database, Transaction
from svc.thumbnails import facts
from svc.thumbnails.model import Image, State
from svc.thumbnails.store import ImageStore
from svc.thumbnails.usecases import Images, Transactions
from tests.fakes.clock import START
from tests.fakes.thumbnails import FakeImages, FakeTransactions, Memory
from tests.fakes.worker import event
from tests.integration.shop import metadata, refusal_of, refused, traceparent
from tests.integration.test_telemetry import walk
from tests.waiting import DEADLINE_S, eventually
from weft.thumbnails.v1 import events_pb2, thumbnails_pb2, thumbnails_pb2_grpc
from worker.handlers.thumbnails import handler as making

MIGRATIONS = str(Path(svc.thumbnails.__file__).parent / "migrations")
#: More calls at once than the burst of the contract.
FLOOD = 300
Stub = thumbnails_pb2_grpc.ThumbnailsServiceStub


def drawn(size: tuple[int, int] = (320, 240)) -> bytes:
    made = BytesIO()
    Pillow.new("RGB", size, (30, 120, 60)).save(made, "PNG")
    return made.getvalue()


@dataclass(frozen=True)
class Store:
    """A store of one kind in one place."""

    transactions: Transactions
    images: Images

    def write(self, work: Callable[[Transaction], Any]) -> Any:
        return self.transactions.serializable(work, deadline=Deadline.after(10))


@pytest.fixture
def database(postgres_url: Callable[[str], str]) -> Iterator[Database]:
    url = postgres_url("thumbnails")
    # Twice: a second run finds nothing to do.
    migrate.upgrade(url, MIGRATIONS)
    migrate.upgrade(url, MIGRATIONS)
    database = Database(url, pool_size=2, name="thumbnails")
    yield database
    database.close()


@pytest.fixture(params=["fake", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        memory = Memory()
        return Store(FakeTransactions(memory), FakeImages(memory))
    return Store(request.getfixturevalue("database"), ImageStore())


def test_a_store_keeps_what_it_is_given_until_it_is_deleted(store: Store) -> None:
    first, second = (Image(key, f"The ✓ {key}", START) for key in ("one", "two"))

    inserted = [
        store.write(lambda tx, each=each: store.images.insert(tx, each, b"\x00\xff")) for each in (second, first, first)
    ]

    assert [True, True, False] == inserted
    assert first == store.write(lambda tx: store.images.get(tx, "one"))
    assert store.write(lambda tx: store.images.thumbnail(tx, "one")) is None
    assert [first, second] == store.write(lambda tx: store.images.page(tx, "", 5))
    assert [second] == store.write(lambda tx: store.images.page(tx, "one", 5))
    assert [True, False] == [store.write(lambda tx: store.images.delete(tx, "one")) for _ in range(2)]
    assert store.write(lambda tx: store.images.get(tx, "one")) is None


def test_the_worker_states_the_table_as_the_service_migrates_it(database: Database) -> None:
    (stated,) = making.METADATA.sorted_tables

    def columns(tx: Transaction) -> dict[str, Any]:
        found = sa.inspect(tx).get_columns(stated.name)
        return {one["name"]: (one["type"]._type_affinity, one["nullable"]) for one in found}

    expected = {one.name: (one.type._type_affinity, one.nullable) for one in stated.columns}
    assert expected.items() <= database.read(columns, deadline=Deadline.after(10)).items()


def test_the_worker_settles_each_image_once_and_forgets_what_was_sent(database: Database) -> None:
    store, images = ImageStore(), [Image(key, key, START) for key in ("good", "bad", "lost")]
    for image, content in zip(images, (drawn(), b"no image", drawn()), strict=True):
        database.serializable(
            lambda tx, image=image, content=content: store.insert(tx, image, content), deadline=Deadline.after(10)
        )
    good, bad, lost, gone = (
        event(events_pb2.ImageCreated(image=f"images/{key}")) for key in ("good", "bad", "lost", "gone")
    )
    handler = making.build(database)

    for batch in ([good, bad, gone], [good]):
        handler.handle(batch)
    for _ in range(2):
        handler.abandon(lost)

    def said(tx: Transaction) -> tuple[Any, ...]:
        left = tx.execute(sa.text("SELECT count(*) FROM images WHERE content IS NOT NULL")).scalar_one()
        return [store.get(tx, image.id) for image in images], store.thumbnail(tx, "good"), left, facts.collect(tx)

    settled, thumbnail, left, counts = database.read(said, deadline=Deadline.after(10))
    reasons = ("", "it is no whole PNG, JPEG, GIF or WebP", "it could not be worked on")
    expected = [
        replace(image, state=State.FAILED if reason else State.READY, failure=reason)
        for image, reason in zip(images, reasons, strict=True)
    ]
    assert (expected, 0) == (settled, left)
    assert (160, 120) == (thumbnail.width, thumbnail.height)
    assert {"pending": 0, "ready": 1, "failed": 2}.items() <= counts.items()


@pytest.fixture(scope="module")
def stub(operator: GatewayClient) -> Stub:
    return Stub(operator.channel())


@pytest.fixture(scope="module")
def token(operator: GatewayClient) -> str:
    return operator.sign_in("thumbnails.read", "thumbnails.write").access_token


def create(operator: GatewayClient, stub: Stub, content: bytes) -> thumbnails_pb2.Image:
    request = thumbnails_pb2.CreateImageRequest(
        image_id=f"t-{uuid.uuid4().hex}", image=thumbnails_pb2.Image(display_name="One", content=content)
    )
    created: thumbnails_pb2.Image = operator.call(stub.CreateImage, request)
    return created


def watched(stub: Stub, token: str, image: thumbnails_pb2.Image) -> thumbnails_pb2.Image:
    """The image as a stream leaves it, which ends by itself."""
    request = thumbnails_pb2.WatchImageRequest(name=image.name)
    *_, last = stub.WatchImage(request, metadata=metadata(token), timeout=DEADLINE_S)
    settled: thumbnails_pb2.Image = last.image
    return settled


def test_an_image_becomes_a_thumbnail_over_grpc_and_json_and_is_gone_once_deleted(
    mesh: Mesh, operator: GatewayClient, stub: Stub, token: str
) -> None:
    created = create(operator, stub, drawn())

    assert thumbnails_pb2.Image.STATE_READY == watched(stub, token, created).state

    name = f"{created.name}/thumbnail"
    request = thumbnails_pb2.GetThumbnailRequest(name=name)
    # The second comes from the cache.
    first, second = (operator.call(stub.GetThumbnail, request) for _ in range(2))
    asked = urllib.request.Request(f"{mesh.status().gateway}/v1/{name}", headers=dict(metadata(token)))
    with urllib.request.urlopen(asked, timeout=30) as response:
        said = base64.b64decode(json.load(response)["content"])
    with Pillow.open(BytesIO(said)) as small:
        assert ("WEBP", (160, 120)) == (small.format, small.size)
    assert (first, first.content) == (second, said)

    operator.call(stub.DeleteImage, thumbnails_pb2.DeleteImageRequest(name=created.name))
    assert "IMAGE_NOT_FOUND" == refused(stub.GetThumbnail, request, token).reason


def test_whoever_sends_no_image_is_told_by_the_stream_and_by_the_error(
    operator: GatewayClient, stub: Stub, token: str
) -> None:
    created = create(operator, stub, b"no image")

    settled = watched(stub, token, created)

    assert (thumbnails_pb2.Image.STATE_FAILED, "it is no whole PNG, JPEG, GIF or WebP") == (
        settled.state,
        settled.failure,
    )
    request = thumbnails_pb2.GetThumbnailRequest(name=f"{created.name}/thumbnail")
    refusal = refused(stub.GetThumbnail, request, token)
    assert (grpc.StatusCode.FAILED_PRECONDITION, "THUMBNAIL_FAILED") == (refusal.code, refusal.reason)


def test_what_was_settled_is_listed_within_the_promised_time(operator: GatewayClient, stub: Stub, token: str) -> None:
    created = create(operator, stub, drawn())
    watched(stub, token, created)

    def states() -> Iterator[int]:
        request = thumbnails_pb2.ListImagesRequest(page_size=1000)
        while True:
            page = operator.call(stub.ListImages, request)
            yield from (image.state for image in page.images if image.name == created.name)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    eventually(lambda: [thumbnails_pb2.Image.STATE_READY] == list(states()))


def test_the_contract_says_how_large_an_image_may_be(stub: Stub, token: str) -> None:
    def sent(size: int) -> str:
        image = thumbnails_pb2.Image(display_name="Large", content=bytes(size))
        return refused(stub.CreateImage, thumbnails_pb2.CreateImageRequest(image=image), token).reason

    # What breaks a rule of its field, and what is larger than anything that could keep it.
    assert ["INVALID_FIELDS", "REQUEST_TOO_LARGE"] == [sent(131_073), sent(190_000)]


def test_nobody_gets_in_without_the_scope(operator: GatewayClient, stub: Stub) -> None:
    assert grpc.StatusCode.UNAUTHENTICATED is refused(stub.ListImages, thumbnails_pb2.ListImagesRequest()).code

    request, reader = thumbnails_pb2.DeleteImageRequest(name="images/none"), operator.sign_in("thumbnails.read")
    assert grpc.StatusCode.PERMISSION_DENIED is refused(stub.DeleteImage, request, reader.access_token).code


def test_a_caller_who_asks_too_often_is_told_to_wait(operator: GatewayClient, stub: Stub) -> None:
    sent = metadata(operator.sign_in("thumbnails.write").access_token)
    # Against its contract, so that what is let through costs nothing.
    request = thumbnails_pb2.DeleteImageRequest(name="images/!")

    calls = [stub.DeleteImage.future(request, metadata=sent, timeout=30) for _ in range(FLOOD)]

    assert "RATE_LIMITED" in {refusal_of(call.exception()).reason for call in calls}


def test_a_call_is_one_trace_from_the_gateway_to_the_worker(mesh: Mesh, stub: Stub, token: str) -> None:
    sampled = traceparent()
    image = thumbnails_pb2.Image(display_name="Traced", content=drawn())
    page = str(mesh.status().urls["traces"]).rstrip("/") + f"/api/traces/{sampled.split('-')[1]}"

    stub.CreateImage(thumbnails_pb2.CreateImageRequest(image=image), metadata=metadata(token, sampled), timeout=30)

    def services() -> set[str]:
        try:
            with urllib.request.urlopen(page, timeout=30) as response:
                return {span["service"] for span in walk(json.load(response)["spans"])}
        except urllib.error.HTTPError:  # not there yet
            return set()

    eventually(lambda: {"thumbnails", "thumbnails-worker"} <= services())
