"""Whatever comes in whatever order - resources, parameters, other expressions, their ends, steps of
the builder, restarts - both engines answer as plain Python does.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from conformance.outcome import FhirError
from fhir_server.storage.memory import MemoryStore
from tests.indexing.world import RACE, RACES, Served, parameter
from tests.storage.conftest import sqlite

IDS = [f"p{number}" for number in range(12)]
# Of each expression what it finds in a patient, by plain Python.
EXPRESSIONS = {
    f"Patient.extension.where(url='{RACE}').extension.value.code": lambda p: {
        inner["valueCoding"]["code"]
        for outer in p.get("extension", ())
        for inner in outer["extension"]
    },
    "Patient.contact.gender": lambda p: {each["gender"] for each in p.get("contact", ())},
    "Patient.contact.where(gender = 'male').relationship": lambda p: {
        concept["coding"][0]["code"]
        for each in p.get("contact", ())
        if each["gender"] == "male"
        for concept in each["relationship"]
    },
}
VALUES = ("male", "female", *RACES)


class _World:
    """What is stored, as plain Python has it, and a server over each engine."""

    def __init__(self, chance: Random, stores) -> None:
        self.chance, self.stores = chance, stores
        self.served = [Served(store) for store in stores]
        self.patients: dict[str, dict] = {}
        self.found = None  # what the parameter finds, while there is one

    async def each(self, act) -> None:
        for served in self.served:
            await act(served)

    def patient(self) -> dict:
        made = {"resourceType": "Patient", "id": self.chance.choice(IDS)}
        if self.chance.random() < 0.7:
            inner = [
                {"url": "ombCategory", "valueCoding": {"code": self.chance.choice(RACES)}}
                for _ in range(self.chance.randint(1, 2))
            ]
            made["extension"] = [{"url": RACE, "extension": inner}]
        if self.chance.random() < 0.7:
            made["contact"] = [
                {
                    "gender": self.chance.choice(VALUES[:2]),
                    "name": {"text": "x"},
                    "relationship": [{"coding": [{"code": self.chance.choice(RACES)}]}],
                }
                for _ in range(self.chance.randint(1, 2))
            ]
        return made

    async def write(self) -> None:
        made = self.patient()
        self.patients[made["id"]] = made
        await self.each(lambda served: served.put(made))

    async def remove(self) -> None:
        if self.patients:
            id = self.chance.choice(sorted(self.patients))
            del self.patients[id]
            await self.each(lambda served: served.delete("Patient", id))

    async def define(self) -> None:
        expression = self.chance.choice(sorted(EXPRESSIONS))
        self.found = EXPRESSIONS[expression]
        made = {**parameter("own", expression), "id": "own"}
        await self.each(lambda served: served.put(made))

    async def end(self) -> None:
        if self.found is not None:
            self.found = None
            await self.each(lambda served: served.delete("SearchParameter", "own"))

    async def step(self) -> None:
        await self.each(lambda served: served.parameters._step("Patient"))

    async def restart(self) -> None:
        self.served = [Served(store) for store in self.stores]
        await self.each(lambda served: served.parameters.settle())

    async def agree(self) -> None:
        for served in self.served:
            for value in VALUES:
                try:
                    total = await served.total("Patient", ("own", value))
                except FhirError as error:
                    due = 400 if self.found is None else 503
                    assert error.status == due
                else:
                    assert self.found is not None
                    assert total == sum(value in self.found(p) for p in self.patients.values())


@pytest.mark.parametrize("seed", range(6))
def test_engines_and_plain_python_agree_after_whatever_came(tmp_path, seed):
    async def story():
        async with sqlite(tmp_path / "data") as store:
            world = _World(Random(seed), [MemoryStore(), store])
            await world.each(lambda served: served.parameters.settle())
            acts = [world.write] * 6 + [world.remove, world.define, world.end, world.restart]
            for _ in range(60):
                await world.chance.choice([*acts, world.step, world.step])()
                await world.agree()
            await world.define()
            await world.each(lambda served: served.parameters.finish())
            await world.agree()

    asyncio.run(story())


def test_nothing_of_an_erased_patient_is_found_by_a_parameter(tmp_path):
    async def story():
        async with sqlite(tmp_path / "data") as store:
            served = Served(store)
            await served.parameters.settle()
            expression = "Patient.extension('http://x.example').value"
            await served.put({**parameter("own", expression, type="string"), "id": "own"})
            for id in ("ann", "bob"):
                told = [{"url": "http://x.example", "valueString": f"{id} alone"}]
                await served.put({"resourceType": "Patient", "id": id, "extension": told})
            await store.transaction(lambda tx: tx.erase("Patient/ann"), write=True)
            assert await served.total("Patient", ("own", "ann")) == 0
            assert await served.total("Patient", ("own", "bob")) == 1
            await store.tidy()
            assert [*store.check()] == []
            query = "SELECT count(*) FROM phrase WHERE text LIKE '%ann%'"
            assert store._writer.execute(query).get == 0

    asyncio.run(story())
