"""A server in memory that tests ask in FHIR."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.packages import Guides
from fhir_server.server import Server
from fhir_server.storage.memory import MemoryStore
from smart_auth.grant import Grant
from tests.security.clinic import core

OPEN = Grant.open()


class Serving:
    def __init__(self) -> None:
        self.server = Server(MemoryStore(), replace(core(), guides=Guides()))

    def perform(self, asked: Interaction, grant: Grant = OPEN) -> Any:
        """What is answered, parsed."""
        caller = Caller(grant, "127.0.0.1", "here")
        result = asyncio.run(self.server.perform(asked, caller))
        return json.loads(result.body) if result.body else None

    def search(self, type: str, grant: Grant = OPEN, **parameters: str) -> Any:
        asked = Interaction("search-type", type, parameters=tuple(parameters.items()))
        return self.perform(asked, grant)

    def read(self, type: str, id: str, grant: Grant = OPEN) -> Any:
        try:
            return self.perform(Interaction("read", type, id), grant)
        except FhirError as error:
            assert error.status == 404
            return None

    def create(self, resource: dict[str, Any]) -> Any:
        asked = Interaction("create", resource["resourceType"], resource=resource)
        return self.perform(asked)

    def delete(self, type: str, id: str) -> Any:
        return self.perform(Interaction("delete", type, id))
