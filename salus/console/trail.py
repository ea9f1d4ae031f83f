"""What the pages that show the audit ask of the server: by the user's own grant, and each question
an audited interaction like any other.

https://hl7.org/fhir/R4/auditevent.html#search
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException

from conformance.json import encode, parse
from conformance.outcome import FhirError
from fhir_server import owners
from fhir_server.audit.event import Caller
from fhir_server.audit.publishing import Newest, newest
from fhir_server.ids import is_id
from fhir_server.interaction import Interaction, Parameters
from fhir_server.search.results import PAGE
from fhir_server.storage.store import EVENTS, Transaction
from salus.console.page import Visit
from salus.console.telling import CLOSELY, PAGES, Names, Told, Viewer, parties, told
from salus.directory import matching
from salus.product import Product
from smart_auth import clients
from smart_auth.authority import Patient
from smart_auth.errors import OAuthError
from smart_auth.grant import Grant, Scope
from smart_auth.sessions import Signed

_ABSENT = frozenset({404, 410})
_COUNT = 50  # entries of a page
_EXPORTED = 200  # entries that an export asks for at once
# With each page of events comes who acted, and whose record it was, as far as the user may see.
_INCLUDED: Parameters = (
    ("_include", "AuditEvent:agent:Practitioner"),
    ("_include", "AuditEvent:agent:RelatedPerson"),
    ("_include", "AuditEvent:agent:Organization"),
    ("_include", "AuditEvent:patient"),
)
_OWN = (Scope("user", "*", "rs"),)
_ALL = tuple(
    Scope("user", type, "rs")
    for type in (EVENTS, owners.PATIENT, "Practitioner", "RelatedPerson", "Organization")
)
_SUBSETTED = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
_PROOF = "proof"
REACHING = tuple(f"{each}/" for each in sorted(CLOSELY))  # accounts that reach patients' records
# What of an event a patient takes home, and of its entities, and of those who may see all.
_PLAIN = tuple("resourceType id meta type subtype action period recorded outcome source".split())
_ENTITY = ("what", "type", "role")
_ENTITY_OF_ALL = (*_ENTITY, "lifecycle", "securityLabel", "name", "description", "detail")


class Filter(NamedTuple):
    """Which events are asked for. `who`: reference of who acted; `patient`: an id; `more`: further
    search parameters."""

    since: date | None = None
    until: date | None = None
    who: str = ""
    patient: str = ""
    more: Parameters = ()

    def parameters(self) -> Parameters:
        found = [
            ("date", f"ge{self.since}" if self.since else ""),
            ("date", f"le{self.until}" if self.until else ""),
            ("agent", self.who),
            ("patient", f"{owners.PATIENT}/{self.patient}" if self.patient else ""),
            *self.more,
        ]
        return tuple(pair for pair in found if pair[1])


class Page(NamedTuple):
    """Some events as the user may see them, in words too, newest first; `older`: what the next
    page is asked by ("": there is none)."""

    events: list[dict[str, Any]]
    told: list[Told]
    names: Names
    older: str


# Withheld: it is in the log, but its receipt would show what concerns others.
State: TypeAlias = Literal["sealed", "waiting", "withheld", "not"]
_UNPROVEN: Mapping[str, State] = {
    "forbidden": "withheld",
    "lock-error": "waiting",
    "throttled": "waiting",
    "timeout": "waiting",
    "transient": "waiting",
}


class Proof(NamedTuple):
    """Whether an event can be proven, and by what."""

    state: State
    receipt: str = ""


class Sealed(NamedTuple):
    """The state of the log: how many entries it has, and of its last checkpoint how many that one
    seals, when it was signed, by whom, and who cosigned it."""

    size: int
    sealed: int
    at: datetime | None = None
    by: str = ""
    witnesses: tuple[str, ...] = ()


class Gone(Exception):
    """A page that was asked for too late, or by somebody else."""


@dataclass(frozen=True, slots=True)
class Trail:
    """The audit, as one user may see it."""

    product: Product
    caller: Caller
    viewer: Viewer

    async def page(self, asked: Filter, after: str = "") -> Page:
        """A page of events. Gone when `after` leads nowhere; OAuthError."""
        shown = (("_sort", "-date"), ("_count", str(_COUNT)), *_INCLUDED)
        try:
            return await self._page(((PAGE, after),) if after else (*asked.parameters(), *shown))
        except HTTPException:
            raise Gone from None

    async def _page(self, parameters: Parameters) -> Page:
        bundle = await self._perform(Interaction("search-type", EVENTS, parameters=parameters))
        entries = bundle.get("entry", ())
        events = _in(entries, "match")
        resources = {
            f"{each['resourceType']}/{each['id']}": _title(each) for each in _in(entries, "include")
        }
        names = Names({k: v for k, v in resources.items() if v}, await self._apps(events))
        words = [told(each, names, self.viewer) for each in events]
        return Page(events, words, names, _older(bundle))

    async def entry(self, id: str) -> Page:
        """One event. HTTPException 404 for one that the user may not see."""
        if not is_id(id):
            raise HTTPException(404)
        page = await self._page((("_id", id), *_INCLUDED))
        if len(page.events) != 1:
            raise HTTPException(404)
        return page

    async def proof(self, id: str) -> Proof:
        """The receipt of an event, where there is one."""
        if _PROOF not in self.product.server.core.operations:
            return Proof("not")
        asked = Interaction("operation", EVENTS, id, operation=_PROOF)
        try:
            result = await self.product.server.perform(asked, self.caller)
        except FhirError as error:
            return Proof(_UNPROVEN.get(error.issues[0].code, "not"))
        receipt = _receipt(parse(result.body))
        return Proof("sealed", receipt) if receipt else Proof("waiting")

    async def may_ask_of(self, who: str) -> bool:
        """Whether the user may ask what somebody did: not where it is hidden who that was."""
        type, _, id = who.partition("/")
        if self.viewer.all or who in ("", self.viewer.who) or type not in CLOSELY:
            return True
        if type == "RelatedPerson":
            asked = (("_id", id), ("_summary", "count"))
            bundle = await self._perform(Interaction("search-type", type, parameters=asked))
            return bool(bundle.get("total"))
        return type == owners.PATIENT and id in self.viewer.patients

    async def find(self, text: str, limit: int) -> list[Patient]:
        """Patients whose name or number begins with `text`, by name. OAuthError."""
        try:
            return await matching(self.product.server, self.caller, text, limit)
        except FhirError as error:
            raise refusal(error) from None

    async def sealed(self) -> Sealed:
        """The state of the log, and its last checkpoint as it is kept."""
        store = self.product.server.store

        async def read(tx: Transaction) -> tuple[int, Newest | None]:
            return await tx.size(), await newest(tx)

        size, last = await store.transaction(read)
        if last is None:
            return Sealed(size, 0)
        state = last.checkpoint
        at = datetime.fromtimestamp(last.at / 1_000_000, UTC).astimezone(self.viewer.zone)
        names = dict.fromkeys(each.name for each in last.note.signatures)
        others = tuple(name for name in names if name != state.origin)
        return Sealed(size, state.size, at, state.origin, others)

    @property
    def key(self) -> str:
        """The verifier key of the log, by which receipts are checked."""
        return str(self.product.log.verifier)

    async def patients(self, ids: Iterable[str]) -> dict[str, str]:
        """Names of patients by id, of those whom the user may see."""
        asked = (("_id", ",".join(sorted(ids))), ("_count", str(_COUNT)))
        bundle = await self._perform(Interaction("search-type", owners.PATIENT, parameters=asked))
        found = _in(bundle.get("entry", ()), "match")
        return {each["id"]: _title(each) for each in found}

    async def lines(self, asked: Filter) -> AsyncIterator[bytes]:
        """All events as NDJSON, newest first. What the user is not to learn is left out, and each
        says so by a tag."""
        parameters: Parameters = (
            *asked.parameters(),
            ("_sort", "-date"),
            ("_count", str(_EXPORTED)),
            *_INCLUDED,
        )
        while True:
            page = await self._page(parameters)
            for event, words in zip(page.events, page.told, strict=True):
                yield encode(self._exported(event, words, page.names)) + b"\n"
            if not page.older:
                return
            parameters = ((PAGE, page.older),)

    def _exported(self, event: dict[str, Any], words: Told, names: Names) -> dict[str, Any]:
        meta = {name: value for name, value in event["meta"].items() if name != "profile"}
        made = {**event, "meta": {**meta, "tag": [*meta.get("tag", ()), _SUBSETTED]}}
        if not self.viewer.all:
            made = {name: made[name] for name in _PLAIN if name in made}
            made["agent"] = [self._agent(each, names) for each in event.get("agent", ())]
        parts = _ENTITY if not self.viewer.all else _ENTITY_OF_ALL
        entities = [
            {name: each[name] for name in parts if name in each} for each in event.get("entity", ())
        ]
        return {**made, "text": _text(words), **({"entity": entities} if entities else {})}

    def _agent(self, agent: Mapping[str, Any], names: Names) -> dict[str, Any]:
        """Who took part: without whence, without a login, and without who is somebody's
        relative."""
        who = agent.get("who", {})
        reference = who.get("reference", "")
        if reference and reference == self.viewer.who:
            return dict(agent)
        kept = {name: agent[name] for name in ("type", "role", "requestor") if name in agent}
        type = reference.partition("/")[0]
        if type in CLOSELY and reference not in names.resources:
            return {**kept, "who": {"type": type}}
        if reference:
            return {**kept, "who": {"reference": reference}}
        login = who.get("identifier", {}).get("value")
        return {**kept, "who": {"identifier": {"value": login}}} if login in names.apps else kept

    async def _apps(self, events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Names of the apps that took part, by id."""
        ids: dict[str, None] = {}
        for each in events:
            for named in filter(None, parties(each)):
                ids[named.get("identifier", {}).get("value") or named.get("display", "")] = None
        found = {id: await clients.client(self.product.authority, id) for id in ids if id}
        return {id: each.name for id, each in found.items() if each}

    async def _perform(self, asked: Interaction) -> dict[str, Any]:
        """HTTPException 404; OAuthError for every other refusal."""
        try:
            result = await self.product.server.perform(asked, self.caller)
        except FhirError as error:
            if error.status in _ABSENT:
                raise HTTPException(404) from None
            raise refusal(error) from None
        return parse(result.body)


def refusal(error: FhirError) -> OAuthError:
    """How a page says why it cannot be shown."""
    if error.issues[0].code == "too-costly":
        text = "That is too much to look through at once. Choose a shorter period, or one patient"
        return OAuthError("invalid_request", text, status=422)
    if error.status >= 500:
        text = "The audit cannot be read or written now. Try again in a moment"
        return OAuthError("temporarily_unavailable", text, status=503)
    return OAuthError("invalid_request", error.issues[0].text, status=error.status)


# --- whose trail ---------------------------------------------------------------------------------


def product_of(visit: Visit) -> Product:
    """The running product. HTTPException 404 where the pages run without one."""
    product: Product | None = getattr(visit.request.app.state, "product", None)
    if product is None:
        raise HTTPException(404)
    return product


async def own(visit: Visit, signed: Signed) -> Trail:
    """What a user who reaches patients sees of what was done to their records. HTTPException 404
    for everybody else."""
    product, who = product_of(visit), signed.account.who or ""
    reach = None
    if who.startswith(REACHING):
        reach = await product.authority.directory.reach(who)
    if reach is None:
        raise HTTPException(404)
    grant = Grant(
        PAGES,
        agent=who,
        id=signed.session.id,
        scopes=_OWN,
        reach=reach,
        account=signed.account.name,
    )
    patients = dict.fromkeys(sorted(reach), "")
    trail = Trail(product, _caller(visit, product, grant), _viewer(product, who, patients))
    if len(reach) < 2:  # then `your`, or the name that comes with the events, says it
        return trail
    return Trail(product, trail.caller, _viewer(product, who, await trail.patients(reach)))


def whole(visit: Visit, signed: Signed) -> Trail:
    """What an administrator sees: everything. HTTPException 404 for everybody else."""
    product, account = product_of(visit), signed.account
    if not account.administrator:
        raise HTTPException(404)
    grant = Grant(
        PAGES,
        agent=account.who,
        id=signed.session.id,
        scopes=_ALL,
        reach=None,
        account=account.name,
    )
    viewer = Viewer(account.who, {}, product.server.core.timezone, account.name, all=True)
    return Trail(product, _caller(visit, product, grant), viewer)


def _viewer(product: Product, who: str, patients: Mapping[str, str]) -> Viewer:
    return Viewer(who, patients, product.server.core.timezone)


def _caller(visit: Visit, product: Product, grant: Grant) -> Caller:
    site = urlsplit(product.server.core.base_url).netloc
    return Caller(grant, visit.visitor.address, site)


# --- reading answers -----------------------------------------------------------------------------


def _in(entries: Iterable[Mapping[str, Any]], mode: str) -> list[dict[str, Any]]:
    return [each["resource"] for each in entries if each.get("search", {}).get("mode") == mode]


def _older(bundle: Mapping[str, Any]) -> str:
    """What the link to the next page carries."""
    for each in bundle.get("link", ()):
        if each["relation"] == "next":
            return str(dict(parse_qsl(urlsplit(each["url"]).query)).get(PAGE, ""))
    return ""


def _receipt(parameters: Mapping[str, Any]) -> str:
    for each in parameters.get("parameter", ()):
        if each.get("name") == "receipt":
            if "valueBase64Binary" in each:
                return base64.b64decode(each["valueBase64Binary"]).decode()
            return str(each.get("valueString", ""))
    return ""


def _title(resource: Mapping[str, Any]) -> str:
    """The name of a person or an organization."""
    name = resource.get("name", "")
    if isinstance(name, str):
        return name
    return next(filter(None, map(_human, _newest(name))), "")


def _newest(names: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The names that are in use, official ones first."""
    used = [each for each in names if each.get("use") != "old"]
    yield from sorted(used, key=lambda each: each.get("use") not in ("official", "usual"))


def _human(name: Mapping[str, Any]) -> str:
    parts = (*name.get("prefix", ()), *name.get("given", ()), name.get("family", ""))
    return str(name.get("text") or " ".join(part for part in parts if part))


def _text(words: Told) -> dict[str, str]:
    """The sentence, for who reads the file."""
    said = ". ".join(part for part in (words.sentence, words.end) if part)
    escaped = said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{escaped}</div>'
    return {"status": "generated", "div": div}
