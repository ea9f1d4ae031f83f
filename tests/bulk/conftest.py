"""Fixtures of the tests of bulk data."""

from __future__ import annotations

import asyncio

import pytest

from fhir_server.bulk.state import Bulk
from tests.security import people
from tests.security.clinic import Clinic, opened


@pytest.fixture(scope="session")
def runner():
    with asyncio.Runner() as made:
        yield made


@pytest.fixture
def clinic(runner, tmp_path):
    """A server with the two patients of people.py, and jobs of its own."""
    store = runner.run(opened(tmp_path / "data"))
    made = Clinic(store, runner, bulk=Bulk(lines=1000))
    made.put(*people.ALL)
    yield made
    runner.run(store.close())
