"""Fixtures of the authorization server's tests."""

import pytest

from tests.smart_auth.served import Served


@pytest.fixture
def served(tmp_path):
    """The protocol's endpoints on a store of their own."""
    with Served(tmp_path) as server:
        yield server
