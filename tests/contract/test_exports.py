"""What is committed of compose and Kubernetes is what the desired state and the manifests say."""

import pytest

from deploy.ship import export


@pytest.mark.parametrize("form", sorted(export.FORMS))
def test_what_is_committed_is_what_the_desired_state_says(form: str) -> None:
    # `make gen` writes both.
    assert [] == export.stale(form, export.FORMS[form])
