"""One scratch server for all that runs suites."""

import pytest

from salus.selftest.scratch import scratch


@pytest.fixture(scope="session")
def server():
    with scratch() as ready:
        yield ready
