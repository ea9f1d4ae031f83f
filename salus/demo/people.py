"""Who signs in to the demo, and the app that it launches: accounts with passwords that everybody
knows, on invented data, behind a loopback address only.

https://hl7.org/fhir/smart-app-launch/app-launch.html#registering-a-smart-app-with-an-ehr
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import msgspec

from fhir_server.audit.event import Caller
from fhir_server.interaction import Interaction, Parameters
from fhir_server.server import Server
from salus.demo.looking import look
from smart_auth import accounts, clients
from smart_auth.authority import Authority, Site
from smart_auth.grant import Grant
from smart_auth.registrable import Registrable

APP = "salus-sample-app"  # as `app/app.js` calls itself
APP_PATH = "/demo/app/"  # where it is launched, and where it comes back to
_SCOPES = (
    "openid fhirUser launch launch/patient patient/Patient.r patient/Encounter.r "
    "patient/Observation.rs patient/MedicationRequest.rs"
)


class Person(NamedTuple):
    """A demo account: what is typed to sign in, and the search that finds its own resource; what
    comes first is tried first. Who has no type of resource administers."""

    account: str
    password: str
    role: str
    type: str
    searches: tuple[Parameters, ...]


_ONE = ("_count", "1")
# Everybody has a name; somebody with a prescription shows more.
_TREATED = ("_has:MedicationRequest:patient:status", "active")
_FIRST = (("identifier", "JSC-1"),)
PEOPLE = (
    Person("doctor", "juniper-street-1", "practitioner", "Practitioner", (_FIRST,)),
    Person("patient", "linden-walk-2026", "patient", "Patient", ((_TREATED, _ONE), (_ONE,))),
    Person("office", "cedar-lane-1812", "clinic administrator", "", ()),
)


async def settle(server: Server, authority: Authority) -> None:
    """Make the accounts that are not there yet, and register the sample app at this address. To
    begin with, somebody has looked at the record of the one who is a patient."""
    made: dict[str, str] = {}
    for person in PEOPLE:
        if await accounts.read(authority, person.account) is None:
            made[person.type] = await _make(server, authority, person)
    app = _app(authority.site)
    if await clients.client(authority, APP) is None:
        await clients.register(authority, app, id=APP)
    else:
        await clients.update(authority, APP, app)
    if {"Practitioner", "Patient"} <= made.keys():
        await look(server, APP, made["Practitioner"], made["Patient"])


async def _make(server: Server, authority: Authority, person: Person) -> str:
    """The id of the resource of an account that is made."""
    found = await _own(server, person) if person.type else None
    made = partial(
        accounts.create,
        authority,
        name=person.account,
        who=f"{person.type}/{found['id']}" if found else None,
        display=_name(found) if found else "The office",
        administrator=found is None,
    )
    await authority.keeper.transaction(made, write=True)
    await accounts.set_password(authority, person.account, person.password)
    return str(found["id"]) if found else ""


async def _own(server: Server, person: Person) -> dict[str, Any]:
    """The resource of a demo account: always the same one, the first that was made."""
    site = server.core.base_url
    caller = Caller(Grant.operator("salus demo"), "127.0.0.1", site)
    for search in person.searches:
        asked = Interaction("search-type", person.type, parameters=(*search, ("_sort", "_id")))
        answer = msgspec.json.decode((await server.perform(asked, caller)).body)
        if answer.get("entry"):
            found: dict[str, Any] = answer["entry"][0]["resource"]
            return found
    raise LookupError(f"The invented clinic has no {person.type}")


def _name(resource: dict[str, Any]) -> str:
    name = resource["name"][0]
    return " ".join((*name.get("prefix", ()), *name["given"], name["family"]))


def _app(site: Site) -> Registrable:
    """The sample app as any app is registered: public, so PKCE stands for a secret."""
    return Registrable(
        name="Salus sample app",
        redirect_uris=(site.at(APP_PATH),),
        launch_uri=site.at(APP_PATH),
        scopes=tuple(_SCOPES.split()),
    )
