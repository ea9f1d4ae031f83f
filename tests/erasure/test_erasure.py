"""Nothing of an erased patient is in the opened files, nor in what others keep; what others are and
who saw what stays."""

from __future__ import annotations

import shutil

import pytest

from fhir_server.storage.sqlite import pages, strays
from tests.erasure import world
from tests.erasure.world import ANN, SECRETS, SEEN, SHARED, fill, told, traces


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic")
    told(folder, fill)
    return folder


@pytest.fixture
def clinic(filled, tmp_path):
    """A copy of a clinic, its server stopped."""
    shutil.copytree(filled, tmp_path / "clinic")
    return tmp_path / "clinic"


def erased(folder):
    return told(folder, lambda clinic: clinic.erase())


def test_before_the_erasure_everything_is_found(clinic, tmp_path):
    """Else finding nothing would say nothing."""
    found = {each.split(" ")[0] for each in traces(clinic, tmp_path / "scratch")}
    hidden = {"ann-note-words", "annlogin", "Annlogin"}  # sealed, and in no index
    assert {each.split(" ")[0] for each in SECRETS} - found - hidden == set()


def test_nothing_of_the_erased_is_in_the_opened_files(clinic, tmp_path):
    done = erased(clinic)
    assert (done.finished, done.tidy) == (True, True)
    assert traces(clinic, tmp_path / "scratch") == []
    assert {each.split(" ")[0] for each in traces(clinic, tmp_path / "scratch", SHARED)} == set(
        SHARED
    )
    assert (clinic / "data" / "salus.db-wal").exists() is False


def test_so_it_is_while_the_server_runs(clinic, tmp_path):
    async def story(clinic_):
        await clinic_.erase()
        return traces(clinic, tmp_path / "scratch")

    assert told(clinic, story) == []
