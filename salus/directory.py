"""What the authorization server asks of the FHIR server: whom a user may see, and the patients and
encounters of its pickers. Every question is an interaction like any other, access and audit
included.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from conformance.json import parse
from conformance.outcome import FhirError
from fhir_server import access
from fhir_server.audit.event import Caller
from fhir_server.ids import is_id
from fhir_server.interaction import Interaction, Parameters
from fhir_server.search.dates import stored
from fhir_server.search.references import literal
from fhir_server.server import Server
from smart_auth.authority import Patient
from smart_auth.grant import Grant, Scope

_NAME = "Salus: whom a user may see"
_ABSENT = frozenset({404, 410})
_PICKER = (Scope("user", "Patient", "rs"), Scope("user", "Encounter", "rs"))
_NOBODY: frozenset[str] = frozenset()


class FhirDirectory:
    """The Directory of `smart_auth.authority`, over the one path of every request."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._site = urlsplit(server.core.base_url).netloc
        self._reach: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]] = {
            "RelatedPerson": self._of_related_person,
            "Person": self._of_person,
        }

    async def reach(self, who: str | None) -> frozenset[str] | None:
        """Ids of the patients whose data a user may see; None: no such limit."""
        type, _, id = (who or "").partition("/")
        if type == "Practitioner":
            return None
        if type == "Patient":
            return frozenset({id})
        if type not in self._reach:
            return _NOBODY
        asking = Caller(Grant(_NAME, agent=who, unrestricted=True), self._site, self._site)
        found = await self._read(asking, type, id)
        if found is None:
            return _NOBODY
        named = set(self._reach[type](found))
        for link in self._linked(found, "RelatedPerson") if type == "Person" else ():
            other = await self._read(asking, "RelatedPerson", link)
            named |= set(self._of_related_person(other or {}))
        return frozenset(named)

    async def patients(self, who: str, text: str, limit: int) -> list[Patient]:
        """Patients whose name or identifier begins with `text` (empty: any), by name."""
        return await matching(self._server, await self._user(who), text, limit)

    async def patient(self, who: str, id: str) -> Patient | None:
        """A patient that the user may see; None for any other."""
        found = await self._read(await self._user(who), "Patient", id)
        return _patient(found) if found else None

    async def encounters(self, who: str, patient: str, limit: int) -> list[tuple[str, str]]:
        """Id and description of a patient's encounters, newest first."""
        asked = (("patient", f"Patient/{patient}"), ("_sort", "-date"), ("_count", str(limit)))
        found = await _search(self._server, await self._user(who), "Encounter", asked)
        return [(each["id"], _encounter(each)) for each in found]

    def ungrantable(self, scope: Scope) -> str | None:
        """Why a clinical scope cannot be granted here; None when it can."""
        core = self._server.core
        return access.grantable(scope, core.index, core.clock())

    def types(self) -> frozenset[str]:
        return frozenset(self._server.core.definitions.types)

    # --- whose patients ---------------------------------------------------------------------------

    def _of_related_person(self, found: dict[str, Any]) -> Iterator[str]:
        """The patient that an active RelatedPerson names, while its period lasts."""
        if found.get("active") is not False and self._lasts(found.get("period", {})):
            yield from self._id_of(found.get("patient", {}), "Patient")

    def _of_person(self, found: dict[str, Any]) -> Iterator[str]:
        """The patients that an active Person is linked to; those of its RelatedPersons are asked
        for apart."""
        yield from self._linked(found, "Patient")

    def _linked(self, person: dict[str, Any], type: str) -> Iterator[str]:
        if person.get("active") is not False:
            for each in person.get("link", ()):
                yield from self._id_of(each.get("target", {}), type)

    def _id_of(self, reference: dict[str, Any], type: str) -> Iterator[str]:
        """The id in a literal reference of our own to a type, read as the index reads it: who may
        name a patient is judged by the index."""
        core = self._server.core
        text = str(reference.get("reference", ""))
        found = literal(text, core.base_url, core.definitions.types)
        if found and found.type == type:
            yield found.id

    def _lasts(self, period: dict[str, Any]) -> bool:
        """Whether now lies in a period; one that cannot be read ended."""
        core = self._server.core
        now = core.clock()
        try:
            begun = "start" not in period or stored(period["start"], core.timezone)[0] <= now
            ended = "end" in period and stored(period["end"], core.timezone)[1] < now
        except ValueError:
            return False
        return begun and not ended

    # --- asking -----------------------------------------------------------------------------------

    async def _user(self, who: str) -> Caller:
        """The user of a picker, who sees there what `user/` scopes would show."""
        grant = Grant(who, agent=who, scopes=_PICKER, reach=await self.reach(who))
        return Caller(grant, self._site, self._site)

    async def _read(self, caller: Caller, type: str, id: str) -> dict[str, Any] | None:
        if not is_id(id):
            return None
        try:
            result = await self._server.perform(Interaction("read", type, id), caller)
        except FhirError as error:
            if error.status in _ABSENT:
                return None
            raise
        return self._parsed(result.body)

    def _parsed(self, body: bytes) -> dict[str, Any]:
        return parse(body, self._server.core.limits.depth)


async def matching(server: Server, caller: Caller, text: str, limit: int) -> list[Patient]:
    """Patients whom a caller may see and whose name or identifier begins with `text` (empty: any),
    by name. FhirError."""
    words = tuple(("name", escaped(word)) for word in text.split())
    shown = (("_sort", "family,given"), ("_count", str(limit)))
    found = await _search(server, caller, "Patient", (*words, *shown))
    if text.strip() and len(found) < limit:
        numbered = (("identifier", escaped(text.strip())), *shown)
        found += await _search(server, caller, "Patient", numbered)
    unique = {each["id"]: each for each in found}
    return [_patient(each) for each in unique.values()][:limit]


async def _search(
    server: Server, caller: Caller, type: str, asked: Parameters
) -> list[dict[str, Any]]:
    result = await server.perform(Interaction("search-type", type, parameters=asked), caller)
    entries = parse(result.body, server.core.limits.depth).get("entry", ())
    return [
        each["resource"]
        for each in entries
        if each.get("search", {}).get("mode") == "match" and "resource" in each
    ]


def escaped(text: str) -> str:
    """A value in which nothing separates (https://hl7.org/fhir/R4/search.html#escaping)."""
    for mark in "\\,|$":
        text = text.replace(mark, f"\\{mark}")
    return text


def _patient(found: dict[str, Any]) -> Patient:
    identifiers = found.get("identifier", [])
    number = next((str(each["value"]) for each in identifiers if "value" in each), "")
    return Patient(
        found["id"], _name(found), found.get("birthDate", ""), found.get("gender", ""), number
    )


def _name(found: dict[str, Any]) -> str:
    """The name to show: an official or usual one before others, never one that is no longer."""
    names = [each for each in found.get("name", ()) if each.get("use") != "old"]
    names.sort(key=lambda each: each.get("use") not in ("official", "usual"))
    for each in names:
        parts = [*each.get("given", ()), *([each["family"]] if "family" in each else ())]
        if said := each.get("text") or " ".join(part for part in parts if part):
            return str(said)
    return ""


def _encounter(found: dict[str, Any]) -> str:
    """When and what, as far as it is said."""
    day = found.get("period", {}).get("start", "")[:10]
    kinds = [_said(each) for each in found.get("type", ())]
    kind = next(filter(None, kinds), "") or found.get("class", {}).get("display", "")
    return " ".join(part for part in (day, kind or found.get("class", {}).get("code", "")) if part)


def _said(concept: dict[str, Any]) -> str:
    codings = concept.get("coding", ())
    shown = (each["display"] for each in codings if "display" in each)
    return str(concept.get("text") or next(shown, ""))
