"""A guide that is installed is searched by: its new parameters are built, the others are R4's.

https://hl7.org/fhir/us/core/
"""

from __future__ import annotations

import pytest

from fhir_server.interaction import Content, Interaction
from fhir_server.packages import installed
from tests.indexing.world import RACES, Served, counted, patient
from tests.shared import shared
from tests.storage.conftest import memory, sqlite, with_store

__all__ = ["memory", "sqlite", "with_store"]

PATIENTS = range(30)
URL = "http://hl7.org/fhir/us/core/SearchParameter"
ASSERTED = "http://hl7.org/fhir/StructureDefinition/condition-assertedDate"
NEW = {
    ("CareTeam", "role"),
    ("Condition", "asserted-date"),
    ("Encounter", "discharge-disposition"),
    ("Goal", "description"),
    ("Patient", "ethnicity"),
    ("Patient", "gender-identity"),
    ("Patient", "race"),
}


async def _install(served: Served, version: str) -> None:
    file = shared(f"packages/hl7.fhir.us.core-{version}.tgz").read_bytes()
    content = Content("application/gzip", file)
    await served.ask(Interaction("operation", operation="install-package", content=content))


async def _filled(store) -> Served:
    served = Served(store)
    await served.parameters.settle()
    for number in PATIENTS:
        await served.put(patient(number))
    await served.put(
        {
            "resourceType": "Condition",
            "id": "c",
            "subject": {"reference": "Patient/p1"},
            "extension": [{"url": ASSERTED, "valueDateTime": "2026-11-22"}],
        }
    )
    return served


@pytest.mark.parametrize("version", ["6.1.0", "7.0.0"])
def test_the_parameters_of_us_core_are_built_when_it_is_installed(with_store, version):
    async def story(store):
        served = await _filled(store)
        await _install(served, version)
        assert await served.refusal("Patient", ("race", RACES[0])) == (503, "incomplete")
        assert await served.refusal("Condition", ("patient.race", "x")) == (503, "incomplete")
        assert await served.total("Patient", ("gender", "other")) == len(PATIENTS)
        await served.parameters.finish()
        assert await served.races() == counted(PATIENTS)
        assert await served.total("Condition", ("asserted-date", "2026-11-22")) == 1
        assert await served.total("Condition", ("asserted-date", "lt2026")) == 0
        told = served.parameters.told()
        assert {(each.type, each.code) for each in told} == NEW
        assert {each.state for each in told} == {"active"}
        restated = served.core.index.edition.guests["Condition"].aliases["onset-date"]
        assert restated == f"{URL}/us-core-condition-onset-date"

    with_store(story)


def test_a_second_version_that_says_the_same_builds_nothing_and_the_end_of_both_ends_it(with_store):
    async def story(store):
        served = await _filled(store)
        await _install(served, "6.1.0")
        await served.parameters.finish()
        await _install(served, "7.0.0")
        # 6.1.0 writes asserted-date otherwise: of what says the same nothing is built.
        assert set(served.parameters.building()) == {"Condition"}
        assert {each.state for each in served.parameters.told()} == {"active", "building"}
        assert await served.races() == counted(PATIENTS)
        await served.parameters.finish()
        assert {each.origin for each in served.parameters.told()} == {"hl7.fhir.us.core#7.0.0"}
        for version in ("7.0.0", "6.1.0"):

            async def remove(tx, version=version):
                await installed.remove(tx, f"hl7.fhir.us.core#{version}")

            assert await served.races() == counted(PATIENTS)
            await store.transaction(remove, write=True)
            await served.core.guides.load(store)
            await served.parameters.settle()
        assert await served.refusal("Patient", ("race", RACES[0])) == (400, "not-supported")
        await served.parameters.finish()
        assert served.parameters.told() == []

    with_store(story)
