"""What all tests share: the option that rewrites goldens and transcripts."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="Write goldens and transcripts anew. Commit a changed one only if you understand why it changed.",
    )
