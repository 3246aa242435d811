"""One version and the next answer the same callers, and no call fails."""

import pytest

from tests.chaos import deployments

pytestmark = pytest.mark.timeout(1800)


@pytest.mark.long(reason="it rolls for minutes; test_change rolls one version in the mesh of the suite")
def test_no_call_fails_while_two_versions_are_mixed(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--deployments", "2", "--service", "orders", "--service", "gateway", "--rps", "20"]

    assert 0 == deployments.main(options), capsys.readouterr()
