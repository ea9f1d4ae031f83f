"""Fixtures of the security tests."""

import asyncio

import pytest

from tests.security import people
from tests.security.clinic import Clinic, opened


@pytest.fixture(scope="session")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(scope="module")
def clinic(runner, tmp_path_factory):
    """A server with the two patients of people.py."""
    store = runner.run(opened(tmp_path_factory.mktemp("clinic") / "data"))
    made = Clinic(store, runner)
    made.put(*people.ALL)
    yield made
    runner.run(store.close())
