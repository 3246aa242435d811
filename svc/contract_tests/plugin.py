"""The pytest plugin: the fixture `provider`, `--weft-record`, and the settings `weft_contracts` and `weft_consumer`.

pytest loads it by its entry point in every run, so it imports nothing but pytest until a test asks for the fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from svc.contract_tests.session import Provider, Recorder

_RECORDER: pytest.StashKey["Recorder"] = pytest.StashKey()
_PROVIDER: pytest.StashKey["Provider"] = pytest.StashKey()
_WRITTEN: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the option and the settings."""
    group = parser.getgroup("weft", "consumer contract tests")
    group.addoption(
        "--weft-record",
        action="store_true",
        help="Write what consumers rely on anew. Run all tests of a consumer: what did not run is not in its record.",
    )
    parser.addini("weft_contracts", "Directory of the records of consumer contract tests.", default="tests/contracts")
    parser.addini("weft_consumer", "Who is tested, where provider() does not say.", default="")


@pytest.fixture
def provider(request: pytest.FixtureRequest) -> Iterator["Provider"]:
    """Mocks any service from its contract: `provider("weft.catalog.v1.CatalogService")`."""
    from svc.contract_tests.session import Provider, Recorder

    config = request.config
    if _RECORDER not in config.stash:
        directory = config.rootpath / config.getini("weft_contracts")
        config.stash[_RECORDER] = Recorder(directory, rewrite=config.getoption("--weft-record"))
    made = Provider(config.stash[_RECORDER], consumer=config.getini("weft_consumer"))
    request.node.stash[_PROVIDER] = made
    yield made
    made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Verify in the test's own phase: a broken expectation is its failure, and explains one that came of it."""
    try:
        result = yield
    except BaseException:
        # Reported beside the test's own failure, which goes on.
        made = item.stash.get(_PROVIDER, None)
        if made is not None and made.problems():
            item.add_report_section("call", "provider", "\n".join(made.problems()))
        raise
    made = item.stash.get(_PROVIDER, None)
    broken = "" if made is None else made.broken()
    if broken:
        # No traceback: the lines that matter are the test's, and the message names them.
        pytest.fail(broken, pytrace=False)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the records of a run in which nothing failed."""
    config = session.config
    if config.getoption("--weft-record") and _RECORDER in config.stash and not session.testsfailed:
        config.stash[_WRITTEN] = [str(path) for path in config.stash[_RECORDER].write()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was written."""
    if not config.getoption("--weft-record") or _RECORDER not in config.stash:
        return
    written = config.stash.get(_WRITTEN, None)
    if written is None:
        terminalreporter.write_line("nothing was recorded: a test failed")
    for path in written or ():
        terminalreporter.write_line(f"recorded {path}")
