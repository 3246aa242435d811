"""The pytest plugin as a team meets it: whole runs of pytest over little test files, and what they print."""

import subprocess
import sys
from pathlib import Path

import pytest

# Imported here, so that the inner runs find the generated code and the metrics registered already.
from svc.contract_tests import session

pytest_plugins = ["pytester"]

assert session.Provider

HEAD = """
import grpc
from weft.catalog.v1 import catalog_pb2, catalog_pb2_grpc

MUG = {"name": "products/mug", "display_name": "A mug"}

def ask(mock, name):
    with mock.channel() as channel:
        stub = catalog_pb2_grpc.CatalogServiceStub(channel)
        return stub.GetProduct(catalog_pb2.GetProductRequest(name=name), timeout=10)

def mocked(provider, **options):
    return provider("weft.catalog.v1.CatalogService", **options)
"""
USED = """
def test_one(provider):
    catalog = mocked(provider, consumer="shop")
    catalog.given("a product", **MUG).expects("GetProduct", name="products/mug").returns(MUG)
    assert "A mug" == ask(catalog, "products/mug").display_name
"""
REFUSED = """
def test_two(provider):
    catalog = mocked(provider, consumer="shop")
    catalog.expects("GetProduct", name="products/none").fails("NOT_FOUND")
    try:
        ask(catalog, "products/none")
    except grpc.RpcError as error:
        assert grpc.StatusCode.NOT_FOUND == error.code()
"""
USED = USED.replace("returns(MUG)", "returns(**MUG)")
RECORD = "tests/contracts/shop/weft.catalog.v1.CatalogService.json"


def run(pytester: pytest.Pytester, *tests: str, options: tuple[str, ...] = (), settings: str = "") -> pytest.RunResult:
    pytester.makeini(f"[pytest]\nasyncio_default_fixture_loop_scope = function\n{settings}")
    pytester.makepyfile(test_shop=HEAD + "".join(tests))
    # Hypothesis' plugin would import and rewrite the whole of it for the summary, and pytester forget it, in each run.
    without = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return pytester.runpytest_inprocess(*without, "--tb=short", *options)


def body(text: str) -> str:
    """A test of one mock, from the lines of its body."""
    lines = "".join(f"    {line}\n" for line in text.splitlines())
    return f"def test_it(provider):\n    catalog = mocked(provider)\n{lines}"


def test_a_call_that_nobody_expects_fails_the_test_with_what_is_different(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        body(
            'catalog.expects("GetProduct", name="products/mug").returns(**MUG)\n'
            "try:\n"
            '    ask(catalog, "products/tea")\n'
            "except grpc.RpcError:\n"
            "    pass"
        ),
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*unexpected call of weft.catalog.v1.CatalogService.GetProduct",
            '*{"name": "products/tea"}',
            '*nearest expectation: GetProduct {"name": "products/mug"} (test_shop.py:15)',
            '*name: expected "products/mug", was "products/tea"',
            "*expected calls that were not made:",
            "*expected 1 time, called 0",
        ]
    )


def test_a_failure_that_came_of_an_unexpected_call_is_explained(pytester: pytest.Pytester) -> None:
    result = run(pytester, body('ask(catalog, "products/tea")'))

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*Captured provider call*", "unexpected call of *", "no call of this method is expected"]
    )


def test_a_predicate_that_breaks_is_named(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        body(
            'catalog.expects("GetProduct", provider.where(lambda request: request.nam, "named")).returns(**MUG)\n'
            'ask(catalog, "products/tea")'
        ),
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*named raised AttributeError('nam')*"])


def test_a_field_more_than_expected_is_a_difference_however_deep_it_lies(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        body(
            'catalog.expects("CreateProduct", product=dict(display_name="A mug", price={"currency_code": "GBP"}))'
            ".returns()\n"
            "with catalog.channel() as channel:\n"
            "    stub = catalog_pb2_grpc.CatalogServiceStub(channel)\n"
            '    product = catalog_pb2.Product(display_name="A mug", price=dict(currency_code="GBP", units=3))\n'
            '    stub.CreateProduct(catalog_pb2.CreateProductRequest(product=product, product_id="mug"), timeout=10)'
        ),
    )

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(
        ['    product_id: not expected, was "mug"', '    product.price.units: not expected, was "3"']
    )


def test_an_expectation_without_an_outcome_says_what_is_missing(pytester: pytest.Pytester) -> None:
    result = run(pytester, body('catalog.expects("GetProduct", name="products/tea")\nask(catalog, "products/tea")'))

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*(test_shop.py:15) has no outcome: say returns(), streams(), fails() or hangs()*"])


def test_an_expectation_that_is_never_used_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(pytester, body('catalog.expects("GetProduct", name="products/mug").returns(**MUG).times(2)'))

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*GetProduct * (test_shop.py:15): expected 2 times, called 0"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('fails("NOT_FOUND", "STOCK_NOT_FOUND")', "does not declare NOT_FOUND STOCK_NOT_FOUND: it declares NOT_FOUND"),
        ('fails("ABORTED", "ETAG_MISMATCH")', "does not declare ABORTED ETAG_MISMATCH"),
        ('fails("DATA_LOSS")', "does not declare DATA_LOSS"),
        ('fails("NOT_FOUND", resurce=1)', "NOT_FOUND takes no resurce"),
        ('returns(display_nam="x")', "Product has no field 'display_nam'; did you mean 'display_name'?"),
        ("returns(display_name=5)", "Failed to parse display_name field"),
        ('returns(price={"currency_code": "GBP", "units": -1})', "price: amount must be between 0"),
        ("returns(catalog_pb2.GetProductRequest())", "is a weft.catalog.v1.Product, not a weft.catalog.v1.GetProduct"),
        ('returns(**MUG).fails("NOT_FOUND")', "GetProduct has an outcome already, and is no stream"),
        ('besides(etag="1")', "besides() comes after returns() or streams()"),
        ("streams(MUG)", "GetProduct is no stream: use returns()"),
        ("times(0)", "times() takes 1 or more"),
    ],
)  # fmt: skip
def test_what_the_contract_does_not_know_fails_on_the_line_that_says_it(
    pytester: pytest.Pytester, line: str, says: str
) -> None:
    result = run(pytester, body(f'catalog.expects("GetProduct", name="products/mug").{line}'))

    result.assert_outcomes(failed=1)
    assert says in result.stdout.str()
    result.stdout.fnmatch_lines(["test_shop.py:15: in test_it"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('mocked(provider).expects("GetProdct")', "has no method 'GetProdct'; did you mean 'GetProduct'?"),
        ('provider("weft.catalog.v1.Catalog")', "did you mean 'weft.catalog.v1.CatalogService'?"),
        ('catalog.expects("GetProduct", nam="x")', "GetProductRequest has no field 'nam'; did you mean 'name'?"),
        ('catalog.expects("GetProduct", name="mug")', "could never be answered: it breaks the contract's rules"),
        ('catalog.expects("GetProduct", provider.like(name="x"), name="y")', "is said twice"),
        (
            'provider("weft.identity.v1.IdentityService").expects("RefreshSession", '
            'refresh_token="t" * 16).fails("UNAUTHENTICATED")',
            "name the reason: RefreshSession declares UNAUTHENTICATED REFRESH_TOKEN_INVALID",
        ),
        ('catalog.given("a product", price=b"x")', "must be plain JSON values"),
    ],
)
def test_a_slip_in_an_expectation_is_named(pytester: pytest.Pytester, line: str, says: str) -> None:
    result = run(pytester, body(line))

    result.assert_outcomes(failed=1)
    assert says in result.stdout.str()
    result.stdout.fnmatch_lines(["test_shop.py:15: in test_it"])


def test_a_record_is_the_same_whatever_the_order_and_number_of_tests(pytester: pytest.Pytester) -> None:
    run(pytester, USED, REFUSED, options=("--weft-record",)).assert_outcomes(passed=2)
    first = Path(RECORD).read_bytes()
    again = USED.replace("test_one", "test_three")
    result = run(pytester, REFUSED, again, USED, options=("--weft-record",))

    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"recorded *{RECORD}"])
    assert first == Path(RECORD).read_bytes()
    run(pytester, USED, REFUSED).assert_outcomes(passed=2)


def test_what_no_record_has_fails_the_test_until_it_is_recorded(pytester: pytest.Pytester) -> None:
    result = run(pytester, USED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"*{RECORD} is not there, which says what shop relies on; record it with *"])

    run(pytester, USED, options=("--weft-record",)).assert_outcomes(passed=1)
    result = run(pytester, USED, REFUSED)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*{RECORD} does not have: GetProduct fails with NOT_FOUND PRODUCT_NOT_FOUND; *"])


def test_a_run_with_a_failure_records_nothing(pytester: pytest.Pytester) -> None:
    result = run(pytester, USED, "def test_no():\n    assert False\n", options=("--weft-record",))

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["nothing was recorded: a test failed"])
    assert not Path(RECORD).exists()


def test_two_tests_that_contradict_each_other_are_told_so(pytester: pytest.Pytester) -> None:
    other = USED.replace("test_one", "test_three").replace("(**MUG)\n    assert", '(name="products/x")\n    assert not')
    result = run(pytester, USED, other, options=("--weft-record",))

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*two tests of shop contradict each other: *tell them apart with given()*"])


def test_neither_what_is_off_the_record_nor_what_any_call_may_meet_is_recorded(pytester: pytest.Pytester) -> None:
    off = USED.replace("returns(**MUG)", "returns(**MUG).off_record()")
    away = REFUSED.replace('"NOT_FOUND"', '"UNAVAILABLE"').replace("NOT_FOUND", "UNAVAILABLE")

    run(pytester, off, away).assert_outcomes(passed=2)
    run(pytester, off, away, options=("--weft-record",)).assert_outcomes(passed=2)
    assert not Path(RECORD).exists()


def test_the_settings_name_consumer_and_directory(pytester: pytest.Pytester) -> None:
    nameless, settings = USED.replace(', consumer="shop"', ""), "weft_consumer = kiosk\nweft_contracts = relied\n"

    run(pytester, nameless, options=("--weft-record",), settings=settings).assert_outcomes(passed=1)

    assert ["relied/kiosk"] == [path.parent.as_posix() for path in Path("relied").rglob("*.json")]


def test_the_plugin_costs_nothing_where_it_is_not_used() -> None:
    code = "import sys, svc.contract_tests.plugin; print({'grpc', 'google.protobuf'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert "set()\n" == done.stdout
