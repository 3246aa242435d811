"""Rules of users, sessions and keys, tried with plain values."""

from datetime import timedelta

import pytest

from svc.identity.model import (
    ACCESS_TOKEN_LIFETIME,
    CLOCK_SKEW,
    KEY_ACTIVATION_DELAY,
    SESSION_LIFETIME,
    Session,
    SessionRecord,
    StoredKey,
    granted,
    is_reserved,
    not_held,
    published_keys,
    signing_key,
)
from tests.fakes.clock import START

RETENTION = ACCESS_TOKEN_LIFETIME + CLOCK_SKEW + KEY_ACTIVATION_DELAY


def key(kid: str, *, after_s: float = 0) -> StoredKey:
    return StoredKey(kid, b"", "{}", START + timedelta(seconds=after_s))


@pytest.mark.parametrize(("user_id", "reserved"), [("operator", True), ("Weft-1", True), ("weft", False), ("", False)])
def test_ids_of_the_platform_are_reserved(user_id: str, reserved: bool) -> None:
    assert reserved == is_reserved(user_id)


def test_a_token_has_all_held_scopes_where_none_is_requested() -> None:
    assert ("a.read", "b.read") == granted(["b.read", "a.read"], [])


def test_a_token_has_only_requested_scopes_that_are_still_held() -> None:
    assert ("a.read",) == granted(["a.read", "b.read"], ["c.read", "a.read"])


def test_scopes_that_are_not_held_are_told_in_the_order_of_the_request() -> None:
    assert ("z.read", "c.read") == not_held(["a.read"], ["z.read", "a.read", "c.read"])


def test_a_session_is_open_until_it_expires_or_is_revoked() -> None:
    record = SessionRecord("s", "u", None, (), START, START + SESSION_LIFETIME)
    revoked = SessionRecord("s", "u", None, (), START, START + SESSION_LIFETIME, START)

    assert record.is_open(START)
    assert not record.is_open(START + SESSION_LIFETIME)
    assert not revoked.is_open(START)


def test_the_repr_of_a_session_shows_no_token() -> None:
    record = SessionRecord("s", "u", None, (), START, START)
    shown = repr(Session(record, (), "access", timedelta(seconds=1), "refresh"))

    assert "access'" not in shown
    assert "refresh'" not in shown


def test_no_key_signs_before_its_activation() -> None:
    assert signing_key([key("a", after_s=1)], START) is None


def test_the_key_activated_last_signs() -> None:
    keys = [key("new", after_s=10), key("old")]

    at_first = signing_key(keys, START + timedelta(seconds=9))
    later = signing_key(keys, START + timedelta(seconds=10))

    assert at_first is not None
    assert later is not None
    assert ("old", "new") == (at_first.kid, later.kid)


def test_instances_agree_on_keys_of_one_moment() -> None:
    first, second = key("a"), key("b")

    assert signing_key([first, second], START) == signing_key([second, first], START)


def test_a_coming_key_is_published_before_it_signs() -> None:
    keys = [key("old"), key("new", after_s=10)]

    assert ["new", "old"] == [each.kid for each in published_keys(keys, START)]


def test_a_replaced_key_is_published_until_its_last_token_has_expired() -> None:
    keys = [key("old"), key("new", after_s=10)]
    replaced = START + timedelta(seconds=10)

    just_before = published_keys(keys, replaced + RETENTION - timedelta(seconds=1))
    then = published_keys(keys, replaced + RETENTION)

    assert ["new", "old"] == [each.kid for each in just_before]
    assert ["new"] == [each.kid for each in then]


def test_the_only_key_is_published_for_ever() -> None:
    assert ["old"] == [each.kid for each in published_keys([key("old")], START + timedelta(days=999))]
