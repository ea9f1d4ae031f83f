"""Fixtures that several packages' tests share."""

import gc
from collections.abc import Iterator

import httpx
import pytest

from tests.living import Living
from tests.secured import Secured


def pytest_collection_finish() -> None:
    """Ten thousand collected tests are there until the end: the collector need not walk them (an
    eighth of the time)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


@pytest.fixture(scope="session")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """One server for all tests that only need one; each makes the resources that it asks for."""
    server = Living(tmp_path_factory.mktemp("living")).start()
    yield server
    assert server.stop() == 0


@pytest.fixture
def fhir(living: Living) -> Iterator[httpx.Client]:
    """A client of the FHIR base."""
    with living.client() as client:
        yield client


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """One server that asks who calls, for all tests that only need one; each registers the clients
    and users that it needs, under names of its own."""
    server = Secured(tmp_path_factory.mktemp("secured"))
    server.start()
    yield server
    assert server.stop() == 0
