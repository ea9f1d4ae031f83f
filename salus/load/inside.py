"""Loading into a server of this process, which only this way of loading has to know.

https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

from conformance.json import encode, parse
from conformance.outcome import FhirError, outcome
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Preferences
from fhir_server.server import Server
from salus.load.requests import Request
from salus.load.targets import Answer


class ServerTarget:
    """The server itself, without HTTP."""

    def __init__(self, server: Server, caller: Caller) -> None:
        self._server = server
        self._caller = caller

    async def send(self, request: Request) -> Answer:
        try:
            result = await self._server.perform(_interaction(request), self._caller)
        except FhirError as error:
            return Answer(error.status, encode(outcome(error.issues)))
        return Answer(result.status, result.body)


def _interaction(request: Request) -> Interaction:
    resource = parse(request.body)
    prefer = Preferences(returns="minimal")
    if request.path == "":
        return Interaction(
            str(resource.get("type")), resource=resource, prefer=prefer, once=request.once
        )
    type, _, id = request.path.partition("/")
    code = "update" if id else "create"
    return Interaction(code, type, id or None, resource=resource, prefer=prefer, once=request.once)
