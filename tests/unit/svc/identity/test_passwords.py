"""Passwords: argon2id with OWASP's parameters, and one amount of work for known and unknown users."""

import threading

import pytest
from argon2 import PasswordHasher

from svc.chassis.context import Deadline
from svc.chassis.errors import ResourceExhausted
from svc.identity import passwords as module
from svc.identity.passwords import Passwords

DEADLINE = Deadline.after(60)


@pytest.fixture(scope="module")
def passwords() -> Passwords:
    return Passwords()


def test_the_hash_is_argon2id_with_the_parameters_of_owasp(passwords: Passwords) -> None:
    assert passwords.hash("correct horse", deadline=DEADLINE).startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_two_hashes_of_one_password_differ(passwords: Passwords) -> None:
    first, second = (passwords.hash("correct horse", deadline=DEADLINE) for _ in range(2))

    assert first != second


def test_only_the_right_password_is_verified(passwords: Passwords) -> None:
    hashed = passwords.hash("corréct\x00 horse", deadline=DEADLINE)

    assert passwords.verify("corréct\x00 horse", hashed, deadline=DEADLINE)
    assert not passwords.verify("corréct", hashed, deadline=DEADLINE)


def test_nothing_is_verified_where_there_is_no_user(passwords: Passwords) -> None:
    assert not passwords.verify("", None, deadline=DEADLINE)


def test_an_unknown_user_costs_the_work_of_a_known_one(passwords: Passwords) -> None:
    # Time cannot be asserted; what it is made of can: the same algorithm with the same memory, passes and salt.
    known = passwords.hash("correct horse", deadline=DEADLINE).split("$")
    unknown = passwords._dummy.split("$")

    assert known[:4] == unknown[:4]
    assert [len(part) for part in known] == [len(part) for part in unknown]


def test_a_password_of_nobody_is_hashed_as_often_as_a_wrong_one_of_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[tuple[str, str]] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002 - argon2's name
            # Up to the salt: algorithm, memory and passes.
            checked.append((str(hash).rpartition("p=1$")[0], str(password)))
            return super().verify(hash, password)

    monkeypatch.setattr(module, "PasswordHasher", Counting)
    passwords = Passwords()
    known = passwords.hash("correct horse", deadline=DEADLINE)

    for password_hash in (known, None):
        assert not passwords.verify("guess", password_hash, deadline=DEADLINE)

    assert [("$argon2id$v=19$m=19456,t=2,", "guess")] * 2 == checked


def test_a_damaged_hash_is_no_match(passwords: Passwords) -> None:
    assert not passwords.verify("correct horse", "$argon2id$nonsense", deadline=DEADLINE)


def test_whoever_finds_no_turn_before_the_deadline_is_refused_and_told_when_to_return() -> None:
    passwords = Passwords(concurrent_max=1)
    with passwords._slots:
        refusals: list[ResourceExhausted] = []

        def attempt() -> None:
            with pytest.raises(ResourceExhausted) as refusal:
                passwords.verify("x", None, deadline=Deadline.after(0.01))
            refusals.append(refusal.value)

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join(10)

    assert [(1.0, (("instance", "1 passwords checked at once"),))] == [
        (refusal.retry_after, refusal.violations) for refusal in refusals
    ]


def test_however_many_passwords_are_new_one_of_those_who_sign_in_is_looked_at() -> None:
    passwords = Passwords(concurrent_max=2)
    known = passwords.hash("correct horse", deadline=DEADLINE)
    with passwords._new:
        # Another new one is refused, although there is a slot.
        with pytest.raises(ResourceExhausted) as refusal:
            passwords.hash("correct horse", deadline=Deadline.after(0.01))

        assert passwords.verify("correct horse", known, deadline=DEADLINE)
    assert (("instance", "1 new passwords hashed at once"),) == refusal.value.violations
    assert passwords.hash("correct horse", deadline=DEADLINE)
