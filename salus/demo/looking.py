"""What was done with the demo patient's record before anybody signs in, so that there is something
to see for the patient, and for who audits.

https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction
from fhir_server.server import Server
from smart_auth.grant import Grant, Scope

_SCOPES = (Scope("patient", "*", "rs"),)


async def look(server: Server, app: str, doctor: str, patient: str) -> None:
    """A doctor looks at a patient's record with an app, and another patient is kept from it. All of
    them are ids."""
    about = ("patient", f"Patient/{patient}")
    asked = [
        Interaction("read", "Patient", patient),
        Interaction("search-type", "Encounter", parameters=(about, ("_count", "3"))),
        Interaction("search-type", "Observation", parameters=(about, ("_count", "5"))),
        Interaction("search-type", "MedicationRequest", parameters=(about,)),
    ]
    doctors = _caller(server, app, f"Practitioner/{doctor}", patient)
    for each in asked:
        await server.perform(each, doctors)
    for id in await _prescriptions(server, doctors, asked[-1]):
        await server.perform(Interaction("read", "MedicationRequest", id), doctors)
    stranger = _caller(server, app, "Patient/somebody-else", "somebody-else")
    with suppress(FhirError):
        await server.perform(asked[0], stranger)


async def _prescriptions(server: Server, caller: Caller, asked: Interaction) -> list[str]:
    answer = msgspec.json.decode((await server.perform(asked, caller)).body)
    return [each["resource"]["id"] for each in answer.get("entry", ())]


def _caller(server: Server, app: str, who: str, patient: str) -> Caller:
    """Somebody at the app, which was allowed the record of one patient."""
    grant = Grant(
        f"{app} for {who}",
        agent=who,
        client=app,
        scopes=_SCOPES,
        patient=patient,
        reach=frozenset({patient}),
        confined=True,
    )
    return Caller(grant, "127.0.0.1", urlsplit(server.core.base_url).netloc)
