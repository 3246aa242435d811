"""How a call says how much it matters, and whom an instance believes."""

import base64

import pytest

from svc.chassis.criticality import HEADER, Courier, Criticality
from weft.analytics.v1 import analytics_pb2
from weft.orders.v1 import orders_pb2
from weft_protos import policy

SHEDDABLE, DEFAULT, CRITICAL = Criticality
KEY = b"k" * 32
METHOD = "/weft.catalog.v1.CatalogService/BatchGetProducts"
TOKEN = "Bearer a.b.c"
OURS = Courier(KEY)


def sent(level: Criticality, own: Criticality, courier: Courier = OURS) -> list[tuple[str, str]]:
    return courier.send(level, method=METHOD, own=own, authorization=TOKEN)


def read(
    metadata: list[tuple[str, str]],
    own: Criticality,
    *,
    courier: Courier = OURS,
    token: str = TOKEN,
    method: str = METHOD,
) -> Criticality:
    return courier.read([("authorization", token), *metadata], method=method, own=own)


@pytest.mark.parametrize("level", Criticality)
@pytest.mark.parametrize("own", Criticality)
def test_an_inner_call_matters_as_much_as_the_one_it_is_made_for(level: Criticality, own: Criticality) -> None:
    assert level == read(sent(level, own), own)


def test_without_a_word_a_call_matters_as_much_as_its_method() -> None:
    assert [CRITICAL, SHEDDABLE] == [read([], CRITICAL), read([], SHEDDABLE)]
    assert [] == sent(DEFAULT, DEFAULT)


def test_anybody_may_say_that_a_call_matters_less_and_nobody_that_it_matters_more() -> None:
    assert SHEDDABLE == read([(HEADER, "sheddable")], CRITICAL)
    assert SHEDDABLE == read([(HEADER, "critical")], SHEDDABLE)


def test_a_code_is_good_for_one_key_one_method_and_one_token() -> None:
    raised = sent(CRITICAL, DEFAULT)

    assert DEFAULT == read(raised, DEFAULT, courier=Courier(b"x" * 32))
    assert DEFAULT == read(raised, DEFAULT, courier=Courier())
    assert DEFAULT == read(raised, DEFAULT, token="Bearer x.y.z")
    assert DEFAULT == read(raised, DEFAULT, method="/weft.catalog.v1.CatalogService/ListProducts")


@pytest.mark.parametrize("value", ["", "urgent", "CRITICAL", "Y3JpdGljYWw=", "=", "é", "a" * 4000])
def test_what_makes_no_sense_says_nothing(value: str) -> None:
    assert DEFAULT == read([(HEADER, value)], DEFAULT)


def test_a_word_said_twice_says_nothing() -> None:
    assert DEFAULT == read([(HEADER, "sheddable"), (HEADER, "sheddable")], DEFAULT)


def test_without_a_key_calls_can_only_be_lowered() -> None:
    assert [] == sent(CRITICAL, DEFAULT, Courier())
    assert [(HEADER, "sheddable")] == sent(SHEDDABLE, DEFAULT, Courier())


def test_a_code_does_not_show_the_token() -> None:
    ((_, value),) = sent(CRITICAL, DEFAULT)

    assert TOKEN.encode() not in base64.urlsafe_b64decode(value)


def test_the_contracts_say_who_matters() -> None:
    orders = orders_pb2.DESCRIPTOR.services_by_name["OrderService"].methods_by_name
    sales = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"].methods_by_name["GetSales"]

    found = [Criticality.of(policy.effective(orders[name])) for name in ("PlaceOrder", "GetOrder", "ListOrders")]
    assert [CRITICAL, DEFAULT, SHEDDABLE] == found
    assert SHEDDABLE == Criticality.of(policy.effective(sales))
