"""Images: taken once, watched until they are settled, deleted; their thumbnails, from the cache where that has them."""

import pytest

from svc.chassis.errors import AlreadyExists, FailedPrecondition, NotFound
from svc.thumbnails import usecases
from tests.fakes.thumbnails import World, make_call, make_world

CALL = make_call()


@pytest.fixture
def world() -> World:
    return make_world()


def create(world: World, image_id: str, name: str = "One") -> str:
    return usecases.create_image(world.ports, image_id, display_name=name, content=b"large", call=CALL).id


def test_what_is_created_is_kept_and_told(world: World) -> None:
    image = usecases.create_image(world.ports, "one", display_name="One", content=b"large", call=CALL)

    assert ({"one": image}, {"one": b"large"}) == (world.memory.images, world.memory.contents)
    (fact,) = world.facts()
    assert ("images/one", image.create_time) == (fact.image, fact.create_time.ToDatetime(image.create_time.tzinfo))


def test_without_an_id_it_gets_a_random_one(world: World) -> None:
    assert create(world, "") != create(world, "")


def test_an_id_that_is_taken_is_refused_and_nothing_is_written(world: World) -> None:
    create(world, "one")
    before = vars(world.memory).copy()

    with pytest.raises(AlreadyExists) as refusal:
        create(world, "one", "Another")

    assert "IMAGE_EXISTS" == refusal.value.reason
    assert before == vars(world.memory)


def test_a_list_goes_on_behind_the_last_one(world: World) -> None:
    for key in ("two", "one", "three"):
        create(world, key)

    found = usecases.list_images(world.ports, after="one", limit=1, call=CALL)

    assert ["three"] == [image.id for image in found]


def test_what_is_deleted_is_not_found(world: World) -> None:
    create(world, "one")
    usecases.delete_image(world.ports, "one", call=CALL)

    for again in (usecases.get_image, usecases.delete_image, usecases.get_thumbnail):
        with pytest.raises(NotFound) as refusal:
            again(world.ports, "one", call=CALL)
        assert "IMAGE_NOT_FOUND" == refusal.value.reason


def test_a_settled_image_is_told_once(world: World) -> None:
    create(world, "one")
    world.memory.settle("one", failure="it is no image")

    with world.looking():
        (image,) = usecases.watch_image(world.ports, "one", call=CALL)

    assert "it is no image" == image.failure


def test_whoever_watches_hears_that_it_was_deleted(world: World) -> None:
    create(world, "one")

    with world.looking():
        stream = usecases.watch_image(world.ports, "one", call=CALL)
        next(stream)
        usecases.delete_image(world.ports, "one", call=CALL)
        with pytest.raises(NotFound):
            next(stream)


def test_until_it_is_made_there_is_no_thumbnail_and_the_reason_says_why(world: World) -> None:
    create(world, "one")
    with pytest.raises(FailedPrecondition) as pending:
        usecases.get_thumbnail(world.ports, "one", call=CALL)
    world.memory.settle("one", failure="it is no image")
    with pytest.raises(FailedPrecondition) as failed:
        usecases.get_thumbnail(world.ports, "one", call=CALL)

    assert ["THUMBNAIL_PENDING", "THUMBNAIL_FAILED"] == [pending.value.reason, failed.value.reason]
    assert "it is no image" in failed.value.message


def test_a_thumbnail_is_read_once_and_then_kept(world: World) -> None:
    create(world, "one")
    world.memory.settle("one")
    call = make_call(cache_key="images/one/thumbnail")

    read = [usecases.get_thumbnail(world.ports, "one", call=call) for _ in range(3)]

    assert [world.memory.thumbnails["one"]] * 3 == read
    assert 1 == world.transactions.reads
