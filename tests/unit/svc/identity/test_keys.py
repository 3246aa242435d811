"""Signing keys: sealed at rest, one first key for all instances, published before they sign and after."""

import json
from datetime import timedelta

import pytest
from joserfc.jwk import ECKey

from svc.chassis.context import Deadline
from svc.chassis.errors import FailedPrecondition, NotFound, Unavailable
from svc.chassis.tokens import parse_jwks
from svc.identity.keys import KEYS_MAX, KeyRing, Seal, SealError, jwk_set, new_key, rotate
from svc.identity.model import ACCESS_TOKEN_LIFETIME, CLOCK_SKEW, KEY_ACTIVATION_DELAY, KEY_HURRY
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


def replaced(ring: KeyRing, kid: str) -> tuple[str, set[str]]:
    """The successor of a key, and those whose making was recorded, by a transaction that may run again."""
    made: set[str] = set()
    return ring.replace(kid, deadline=DEADLINE, record=lambda _tx, key: made.add(key.kid)).kid, made


def revoked(ring: KeyRing, kid: str) -> set[str]:
    """Revoke a key; what was recorded."""
    told: set[str] = set()
    ring.revoke(kid, deadline=DEADLINE, record=lambda _tx, key: told.add(key.kid))
    return told


def opened(place: Place, documents: list[bytes]) -> tuple[KeyRing, str]:
    ring = place.ring(documents)
    ring.open(deadline=DEADLINE)
    return ring, ring.signing()[0]


def test_a_key_has_one_successor_however_often_it_is_rotated(place: Place) -> None:
    documents: list[bytes] = []
    ring, old = opened(place, documents)

    new, made = replaced(ring, old)

    assert ({new}, {old, new}) == (made, kids(documents[-1]))
    assert (new, set()) == replaced(place.ring(), old)
    place.clock.move(KEY_ACTIVATION_DELAY)
    assert (new, set()) == replaced(ring, old)
    assert replaced(ring, new)[0] not in (old, new)


def test_only_a_key_that_there_is_can_be_rotated_or_revoked(place: Place) -> None:
    ring, old = opened(place, [])

    with pytest.raises(NotFound):
        replaced(ring, "elsewhere")
    with pytest.raises(NotFound):
        revoked(ring, "elsewhere")
    assert [old] == [key.kid for key in ring.listed(deadline=DEADLINE)]


def test_a_revoked_key_is_out_of_the_set_at_once_and_another_one_signs_soon(place: Place) -> None:
    documents: list[bytes] = []
    ring, old = opened(place, documents)

    assert {old} == revoked(ring, old)

    (new,) = kids(documents[-1])
    assert new != old
    # Verifiers may not have it yet: better nobody signs in than somebody is refused.
    with pytest.raises(Unavailable) as refusal:
        ring.signing()
    assert refusal.value.retry_after is not None
    place.clock.move(KEY_HURRY)
    assert new == ring.signing()[0]


def test_where_an_older_key_is_still_published_it_signs_without_a_pause_until_a_new_one_does(place: Place) -> None:
    documents: list[bytes] = []
    ring, old = opened(place, documents)
    bad, _ = replaced(ring, old)
    place.clock.move(KEY_ACTIVATION_DELAY)
    assert bad == ring.signing()[0]

    revoked(ring, bad)

    assert old == ring.signing()[0]
    (new,) = kids(documents[-1]) - {old}
    assert new != bad
    place.clock.move(KEY_ACTIVATION_DELAY)
    assert new == ring.signing()[0]


def test_a_revoked_key_that_did_not_sign_any_more_needs_no_successor(place: Place) -> None:
    documents: list[bytes] = []
    ring, old = opened(place, documents)
    new, _ = replaced(ring, old)
    place.clock.move(KEY_ACTIVATION_DELAY)

    revoked(ring, old)

    assert ({new}, new) == (kids(documents[-1]), ring.signing()[0])


def test_every_instance_drops_a_revoked_key_with_its_next_look(place: Place) -> None:
    ring, old = opened(place, [])
    documents: list[bytes] = []
    other, _ = opened(place, documents)

    revoked(ring, old)
    other.refresh(deadline=DEADLINE)

    assert old not in kids(documents[-1])


def test_a_set_that_another_instance_overwrote_with_an_older_one_is_put_right(place: Place) -> None:
    documents: list[bytes] = []
    ring, old = opened(place, documents)
    stale = documents[-1]
    revoked(ring, old)
    current, published = documents[-1], len(documents)

    ring.seen(current)
    ring.refresh(deadline=DEADLINE)
    assert published == len(documents)

    ring.seen(stale)
    ring.refresh(deadline=DEADLINE)
    assert [current] == documents[published:]
