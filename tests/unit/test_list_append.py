"""The checker of histories, on planted anomalies: each is found by its name, and sound histories are found sound."""

import random

import pytest

from tests.histories.list_append import SERIALIZABLE, Anomaly, Append, Read, Status, Transaction, check

A, B = "a", "b"


def committed(*operations: Append | Read) -> Transaction:
    return Transaction(operations)


PLANTED = {
    "G0": [
        committed(Append(A, 1), Append(B, 1)),
        committed(Append(A, 2), Append(B, 2)),
        committed(Read(A, (1, 2)), Read(B, (2, 1))),
    ],
    "G1a": [Transaction((Append(A, 1),), Status.ABORTED), committed(Read(A, (1,)))],
    "G1b": [committed(Append(A, 1), Append(A, 2)), committed(Read(A, (1,)))],
    "G1c": [committed(Append(A, 1), Read(B, (1,))), committed(Append(B, 1), Read(A, (1,)))],
    "G-single": [
        committed(Append(A, 1), Append(B, 1)),
        committed(Read(A, ()), Read(B, (1,))),
        committed(Read(A, (1,))),
    ],
    "G2": [
        committed(Read(A, ()), Append(B, 1)),
        committed(Read(B, ()), Append(A, 1)),
        committed(Read(A, (1,)), Read(B, (1,))),
    ],
    "internal": [committed(Append(A, 1), Read(A, ()))],
    "order": [
        committed(Append(A, 1)),
        committed(Append(A, 2)),
        committed(Read(A, (1, 2))),
        committed(Read(A, (2,))),
    ],
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_anomaly_is_found(name: str) -> None:
    assert name in {anomaly.name for anomaly in check(PLANTED[name])}


@pytest.mark.parametrize("name", ["G0", "G-single", "G2", "G1c"])
def test_a_cycle_is_named_by_its_weakest_kind_alone(name: str) -> None:
    assert {name} == {anomaly.name for anomaly in check(PLANTED[name])} - {"G1b"}


def test_a_lost_update_is_one() -> None:
    # Both read nothing; the first one's element never was in the list that came after.
    history = [committed(Read(A, ()), Append(A, 1)), committed(Read(A, ()), Append(A, 2))]

    assert [Anomaly("lost", (0,))] == check(history, final={A: (2,)})
    assert "G-single" in {anomaly.name for anomaly in check(history, final={A: (1, 2)})}


def test_what_nobody_knows_the_end_of_may_be_read_or_not() -> None:
    unknown = Transaction((Append(A, 1),), Status.UNKNOWN)

    assert [] == check([unknown, committed(Read(A, (1,)))])
    assert [] == check([unknown, committed(Read(A, ()))], final={A: ()})


def test_the_witness_of_a_write_skew_is_the_two_that_made_it() -> None:
    assert [Anomaly("G2", (0, 1))] == check(PLANTED["G2"])


@pytest.mark.parametrize("seed", range(20))
def test_what_ran_one_after_the_other_is_serializable(seed: int) -> None:
    chance = random.Random(seed)
    lists: dict[str, list[int]] = {key: [] for key in "abcd"}
    history = []
    for number in range(200):
        operations: list[Append | Read] = []
        for step in range(chance.randint(1, 4)):
            key = chance.choice("abcd")
            if chance.random() < 0.5:
                lists[key].append(number * 10 + step)
                operations.append(Append(key, number * 10 + step))
            else:
                operations.append(Read(key, tuple(lists[key])))
        history.append(committed(*operations))
    chance.shuffle(history)

    found = check(history, final={key: tuple(values) for key, values in lists.items()})

    assert [] == [anomaly for anomaly in found if anomaly.name in SERIALIZABLE]
