"""A server whose search parameters change, over any store, and what plain Python says of patients."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from typing import Any

from conformance import definitions
from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.indexing.registry import SearchParameters
from fhir_server.interaction import Interaction
from fhir_server.interaction import Preferences as Prefer
from fhir_server.packages import Guides
from fhir_server.search.index import Index
from fhir_server.server import Server
from smart_auth.grant import Grant
from tests.security.clinic import BASE, core

EVERYBODY = Grant.operator("test")
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition"
RACE = f"{US_CORE}/us-core-race"
RACES = ("2106-3", "2028-9", "2054-5")


def parameter(code: str, expression: str, **more: Any) -> dict[str, Any]:
    """A SearchParameter resource that is active."""
    return {
        "resourceType": "SearchParameter",
        "url": f"http://guide.example/SearchParameter/{code}",
        "name": code.replace("-", "_").title(),
        "status": "active",
        "description": "For a test",
        "code": code,
        "base": ["Patient"],
        "type": "token",
        "expression": expression,
        **more,
    }


RACE_PARAMETER = parameter("race", f"Patient.extension.where(url='{RACE}').extension.value.code")


def patient(number: int) -> dict[str, Any]:
    """A patient; of five, four have a race."""
    made: dict[str, Any] = {"resourceType": "Patient", "id": f"p{number}", "gender": "other"}
    if number % 5:
        coding = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": race_of(number)}
        inner = [
            {"url": "ombCategory", "valueCoding": coding},
            {"url": "text", "valueString": "as told"},
        ]
        made["extension"] = [{"url": RACE, "extension": inner}]
    return made


def race_of(number: int) -> str | None:
    return RACES[number % 3] if number % 5 else None


def counted(numbers: range) -> dict[str, int]:
    """The plain answer: how many patients of each race."""
    return {race: sum(race_of(number) == race for number in numbers) for race in RACES}


class Served:
    """A server over a store, with an index of its own."""

    def __init__(self, store: Any) -> None:
        index = Index(definitions.load(), BASE, UTC)
        self.core = replace(core(), index=index, guides=Guides())
        self.server = Server(store, self.core)
        self.parameters = SearchParameters(store, self.core)
        self.server.parameters = self.parameters

    async def ask(self, asked: Interaction, grant: Grant = EVERYBODY) -> dict[str, Any]:
        result = await self.server.perform(asked, Caller(grant, "127.0.0.1", "here"))
        return json.loads(result.body) if result.body else {}

    async def put(self, resource: dict[str, Any], grant: Grant = EVERYBODY) -> None:
        type, id = resource["resourceType"], resource["id"]
        await self.ask(Interaction("update", type, id, resource=resource), grant)

    async def delete(self, type: str, id: str, grant: Grant = EVERYBODY) -> None:
        await self.ask(Interaction("delete", type, id), grant)

    async def search(
        self, type: str, *asked: tuple[str, str], handling: str = "strict", grant: Grant = EVERYBODY
    ) -> dict[str, Any]:
        prefer = Prefer(handling=handling)
        return await self.ask(
            Interaction("search-type", type, parameters=asked, prefer=prefer), grant
        )

    async def total(self, type: str, *asked: tuple[str, str]) -> int:
        return int((await self.search(type, *asked, ("_summary", "count")))["total"])

    async def races(self) -> dict[str, int]:
        return {race: await self.total("Patient", ("race", race)) for race in RACES}

    async def refusal(self, type: str, *asked: tuple[str, str], **more: Any) -> tuple[int, str]:
        """The status and the code of what a search is refused with."""
        try:
            await self.search(type, *asked, **more)
        except FhirError as error:
            return error.status, error.issues[0].code
        return 200, ""
