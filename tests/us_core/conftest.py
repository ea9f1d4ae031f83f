"""One server with US Core for all tests of this folder: to load it takes half a minute."""

import pytest

from conformance.packages import Packages, read
from tests.us_core import clinic, driver


@pytest.fixture(scope="package")
def opened(tmp_path_factory):
    server, traffic = clinic.opened(tmp_path_factory.mktemp("us-core"))
    yield server, traffic
    server.stop()


@pytest.fixture(scope="package")
def server(opened):
    return opened[0]


@pytest.fixture(scope="package")
def worlds(server):
    with clinic.client_of(server) as client:
        yield {
            version: driver.World(
                client, Packages().including(read(clinic.package(version).read_bytes()))
            )
            for version in clinic.VERSIONS
        }
