"""Signing keys: sealed at rest, one first key for all instances, published before they sign and after."""

import json
from datetime import timedelta

import pytest
from joserfc.jwk import ECKey

from svc.chassis.context import Deadline
from svc.chassis.errors import FailedPrecondition, Unavailable
from svc.chassis.tokens import parse_jwks
from svc.identity.keys import KEYS_MAX, KeyRing, Seal, SealError, jwk_set, new_key, rotate
from svc.identity.model import ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, KEY_ACTIVATION_DELAY
from tests.fakes.clock import START, FakeClock
from tests.fakes.identity import FakeKeys, FakeTransactions, Memory

DEADLINE = Deadline.after(60)
SEAL = Seal(b"k" * 32)
MINUTE = timedelta(minutes=1)


class Place:
    """A database and its clock, on which instances open rings."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.clock = FakeClock()
        self.transactions = FakeTransactions(self.memory)
        self.keys = FakeKeys(self.memory)

    def ring(self, published: list[bytes] | None = None, *, seal: Seal = SEAL) -> KeyRing:
        documents = published if published is not None else []
        return KeyRing(self.transactions, self.keys, seal=seal, clock=self.clock, publish=documents.append)

    def rotate(self, seal: Seal = SEAL) -> str:
        return rotate(self.transactions, self.keys, seal=seal, clock=self.clock, deadline=DEADLINE).kid


@pytest.fixture
def place() -> Place:
    return Place()


def kids(document: bytes) -> set[str]:
    return {key["kid"] for key in json.loads(document)["keys"]}


def test_a_sealed_key_holds_nothing_in_clear_and_comes_back_whole() -> None:
    sealed = SEAL.seal("kid", b"the private key")

    assert b"private" not in sealed
    assert b"the private key" == SEAL.unseal("kid", sealed)


def test_two_seals_of_one_key_differ() -> None:
    assert SEAL.seal("kid", b"x") != SEAL.seal("kid", b"x")


@pytest.mark.parametrize(("seal", "kid", "flip"), [(Seal(b"o" * 32), "kid", 0), (SEAL, "other", 0), (SEAL, "kid", 1)])
def test_another_seal_another_kid_or_a_changed_bit_is_refused(seal: Seal, kid: str, flip: int) -> None:
    sealed = bytearray(SEAL.seal("kid", b"the private key"))
    sealed[-1] ^= flip

    with pytest.raises(SealError, match=kid):
        seal.unseal(kid, bytes(sealed))


def test_what_is_too_short_to_be_sealed_is_refused() -> None:
    with pytest.raises(SealError):
        SEAL.unseal("kid", b"short")


def test_a_new_key_shows_its_private_half_neither_in_its_repr_nor_in_the_set() -> None:
    key = new_key(SEAL, START)
    private = json.loads(SEAL.unseal(key.kid, key.sealed))

    assert private["d"] not in repr(key)
    assert private["d"].encode() not in jwk_set([key])


def test_verifiers_take_the_set() -> None:
    first, second = new_key(SEAL, START), new_key(SEAL, START)

    assert {first.kid, second.kid} == set(parse_jwks(jwk_set([first, second])))
    assert jwk_set([second, first]) == jwk_set([first, second])


def test_instances_that_start_together_agree_on_one_key(place: Place) -> None:
    documents: list[bytes] = []
    first, second = place.ring(documents), place.ring(documents)
    first.open(deadline=DEADLINE)
    second.open(deadline=DEADLINE)

    assert 1 == len(place.memory.keys)
    assert first.signing()[0] == second.signing()[0]
    assert 1 == len(set(documents))


def test_the_key_that_signs_fits_the_published_one(place: Place) -> None:
    documents: list[bytes] = []
    ring = place.ring(documents)
    ring.open(deadline=DEADLINE)

    kid, private = ring.signing()

    public = private.as_dict(private=False)
    published = ECKey.import_key(next(key for key in json.loads(documents[0])["keys"] if key["kid"] == kid))
    assert published.as_dict(private=False)["x"] == public["x"]


def test_nothing_is_signed_before_the_keys_are_loaded(place: Place) -> None:
    with pytest.raises(Unavailable):
        place.ring().signing()


def test_an_unchanged_set_is_not_published_again(place: Place) -> None:
    documents: list[bytes] = []
    ring = place.ring(documents)
    ring.open(deadline=DEADLINE)
    ring.refresh(deadline=DEADLINE)

    assert 1 == len(documents)


def test_a_rotation_is_published_first_signs_later_and_retires_the_old_key_last(place: Place) -> None:
    documents: list[bytes] = []
    ring = place.ring(documents)
    ring.open(deadline=DEADLINE)
    old = ring.signing()[0]

    new = place.rotate()
    ring.refresh(deadline=DEADLINE)
    assert ({old, new}, old) == (kids(documents[-1]), ring.signing()[0])

    place.clock.move(KEY_ACTIVATION_DELAY)
    assert new == ring.signing()[0]

    place.clock.move(ACCESS_TOKEN_LIFETIME + CLOCK_SKEW)
    ring.refresh(deadline=DEADLINE)
    assert {old, new} == kids(documents[-1])

    place.clock.move(KEY_ACTIVATION_DELAY)
    ring.refresh(deadline=DEADLINE)
    assert ({new}, {new}) == (kids(documents[-1]), set(place.memory.keys))


def test_an_instance_with_another_seal_key_does_not_start(place: Place) -> None:
    place.ring().open(deadline=DEADLINE)

    with pytest.raises(SealError):
        place.ring(seal=Seal(b"o" * 32)).open(deadline=DEADLINE)


def test_a_rotation_with_another_seal_key_is_refused(place: Place) -> None:
    place.ring().open(deadline=DEADLINE)

    with pytest.raises(SealError):
        place.rotate(Seal(b"o" * 32))
    assert 1 == len(place.memory.keys)


def test_keys_are_bounded(place: Place) -> None:
    for _ in range(KEYS_MAX):
        place.rotate()

    with pytest.raises(FailedPrecondition):
        place.rotate()
