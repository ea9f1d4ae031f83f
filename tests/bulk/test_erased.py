"""Jobs that name a patient go with the patient, whichever way the erasure is done.

https://gdpr-info.eu/art-17-gdpr/
"""

from __future__ import annotations

from fhir_server.bulk import job as jobs
from fhir_server.erasure.finishing import ERASED, Destroyed, redo
from tests.bulk.test_export import ALL
from tests.bulk.world import ASYNC, kick_off
from tests.security.people import reference


class Keys:
    """The keys of the clinic's store, of which somebody destroyed a patient's."""

    def __init__(self, id: bytes) -> None:
        self._gone = type("Gone", (), {"id": id, "why": ERASED})()

    def destroy(self, ids, why) -> None:
        raise AssertionError("nothing more is to be destroyed")

    def destroyed(self) -> list[Destroyed]:
        return [self._gone]

    def backups_until(self) -> None:
        return None


def test_an_erasure_that_is_done_again_at_the_start_forgets_the_jobs_that_name_the_patient(clinic):
    def named(id: str) -> dict:
        value = {"name": "patient", "valueReference": reference(f"Patient/{id}")}
        return {"resourceType": "Parameters", "parameter": [value]}

    for id in "ab":
        kick_off(clinic, ALL, "Patient/$export", named(id), headers=(ASYNC,))
    store, run = clinic.server.store, clinic._runner.run
    sealers = run(store.transaction(lambda tx: tx.sealers()))
    destroyed = next(id for owner, id in sealers if owner == "Patient/a")

    assert run(redo(store, Keys(destroyed), clinic.server.core)) == 1
    left = run(store.transaction(jobs.every))
    assert [each.wanted.patients for each in left] == [("b",)]


def test_a_job_is_forgotten_for_an_id_however_its_url_writes_it_and_for_no_part_of_one(clinic):
    for url in (
        "$export?_typeFilter=Observation%3Fsubject%3DPatient%252Fa&_type=Observation",
        "$export?_typeFilter=Observation%3Fsubject%3DPatient/aa&_type=Observation",
    ):
        kick_off(clinic, ALL, url)
    store, run = clinic.server.store, clinic._runner.run

    assert run(store.transaction(lambda tx: jobs.forget(tx, ["Patient/a"]), write=True)) == 1
    (left,) = run(store.transaction(jobs.every))
    assert "Patient/aa" in left.wanted.filters[0][1]
