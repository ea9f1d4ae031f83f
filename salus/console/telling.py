"""AuditEvents in words: who did what, with what of a record, and how it ended.

https://hl7.org/fhir/R4/auditevent.html, https://www.w3.org/WAI/WCAG22/Understanding/readable
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from fhir_server import owners
from salus.console.deeds import (
    ACTIONS,
    BEFELL,
    DEEDS,
    FORESEEN,
    HAPPENINGS,
    KINDS,
    OF_RECORDS,
    OPERATION,
    OPERATIONS,
    OTHER,
    STRANGERS,
    Deed,
)
from salus.console.words import type_words
from salus.operator.clients import OPERATOR
from salus.operator.tokens import OWN

PAGES = "Salus: who looked"  # what the audit calls the pages that show it
_OWN_CODES = "urn:salus:audit"
_PERSON = "1"  # the type of an entity that is a person, and its role of the patient
_QUERY = "24"  # the role of an entity that is a query
_REFUSED = frozenset({"forbidden", "login", "not-found", "security", "suppressed"})
CLOSELY = frozenset({"Patient", "Person", "RelatedPerson"})  # who is nobody else's business
_NAMELESS = (*STRANGERS.values(), "Somebody", "The clinic’s", "The operator", "The people who")
_SEVERAL = re.compile(r"(’s|your) and ")  # between whose records there are
_MOST_NAMES = 3  # patients who are named in a sentence; of others the number
_KEPT_OUT = frozenset({"sign-in-refused", "lockout"})  # it is not known who it was
_OF_AN_ACCOUNT = _KEPT_OUT | {"account"}
_FROM_THE_LIST = Deed("fetched a receipt from", "fetch a receipt from")
_DRY = re.compile(r"dry[- ]run", re.IGNORECASE)  # how an event says that nothing was done
_PURPOSES = re.compile(r" \(password\)")


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads the words. `who`: their own resource, `account`: their login; `patients`: names by
    id of those whose record is meant; `all`: whether logins, addresses and whatever was named may
    be told."""

    who: str | None
    patients: Mapping[str, str]
    zone: tzinfo
    account: str = ""
    all: bool = False


@dataclass(frozen=True, slots=True)
class Names:
    """What is known by name: resources by reference, apps by their client id."""

    resources: Mapping[str, str]
    apps: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Told:
    """An event in words: `who` did `what`, by the app `app` ("": none), and how it ended, `end`
    ("": well). `whom`: the reference of who it was, by which events are found; `reported`: another
    system says so."""

    id: str
    at: datetime
    who: str
    whom: str
    what: str
    app: str
    end: str
    whose: str
    reported: bool

    @property
    def sentence(self) -> str:
        return f"{self.who} {self.what}"


class Run(NamedTuple):
    """Events one after the other that say the same, newest first."""

    events: tuple[Told, ...]

    @property
    def first(self) -> Told:
        return self.events[0]


class Day(NamedTuple):
    """What happened on one day."""

    name: str
    runs: list[Run]


def told(event: Mapping[str, Any], names: Names, viewer: Viewer) -> Told:
    """An event as it is to be read by `viewer`; only what the server shows them is in it."""
    reported = any(tag.get("code") == "reported" for tag in event.get("meta", {}).get("tag", ()))
    user, client = parties(event)
    ended = _end(event)
    whose = _whose(event, names, viewer)
    record = _record(whose) or "a record"
    operator = not reported and _is_operator(client, names)
    subject = _who(user or client, names, viewer, reported)
    who = _operator(viewer) if operator else subject
    codes = _codes(event)
    account = "your account" if subject == "You" else f"the account of {_within(subject)}"
    whom = (user or {}).get("reference", "")
    if codes & _OF_AN_ACCOUNT:  # it says whose, and not who did it
        whom = ""
    if codes & _KEPT_OUT:
        who, what = "Somebody", f"sign in to {account}"
    elif "account" in codes:
        who, what = account[:1].upper() + account[1:], _befell(event, operator, viewer)
    elif "log-alarm" in codes and not reported:
        who, what, ended = "The log of this server", "raised an alarm", ""
    elif client.get("display") == PAGES:
        deed = _FROM_THE_LIST if "operation" in codes else DEEDS["read"]
        what = f"{_said(deed, ended)} the list of who looked at {record}"
    else:
        deed, plain = _deed(event)
        said = _said(deed, ended)
        what = said.format(record=record) if plain else f"{said} {_object(event, whose)}"
    app = "" if user is None or operator else _app(client, names, viewer)
    text = f"tried to {what}" if ended else what
    if who != "You" and not _may_be_named(whom, names, viewer):
        whom = ""
    at = _when(event, viewer)
    return Told(event["id"], at, who, whom, text, app, ended, whose, reported)


def _when(event: Mapping[str, Any], viewer: Viewer) -> datetime:
    """When it was; when it was recorded here, where another system tells a time that no calendar
    has or no zone can show."""
    for told in (event.get("recorded", ""), event["meta"]["lastUpdated"]):
        with suppress(ValueError, OverflowError):
            return datetime.fromisoformat(told).astimezone(viewer.zone)
    return datetime.fromtimestamp(0, viewer.zone)


def _may_be_named(reference: str, names: Names, viewer: Viewer) -> bool:
    if viewer.all or reference in names.resources:
        return True
    return reference.partition("/")[0] not in CLOSELY


def _said(deed: Deed, ended: str) -> str:
    return deed.tried if ended else deed.done


def _codes(event: Mapping[str, Any]) -> set[str]:
    return {each.get("code", "") for each in event.get("subtype", ())}


def _befell(event: Mapping[str, Any], operator: bool, viewer: Viewer) -> str:
    """What was done to an account, and by whom where the event says it."""
    detail = _PURPOSES.sub("", event.get("outcomeDesc", ""))
    done, by = (detail, "") if detail in BEFELL else detail.partition(" by ")[::2]
    said = BEFELL.get(done, "was changed")
    if operator:
        return f"{said} by {_within(_operator(viewer))}"
    if not by:
        return said
    return f"{said} by {by if viewer.all else 'somebody of the staff'}"


def days(events: Iterable[Told]) -> list[Day]:
    """Events by day, and those that say the same together, as they come."""
    made: list[Day] = []
    for each in events:
        name = each.at.strftime("%A, %-d %B %Y")
        if not made or made[-1].name != name:
            made.append(Day(name, []))
        runs = made[-1].runs
        if runs and _same(runs[-1].first, each):
            runs[-1] = Run((*runs[-1].events, each))
        else:
            runs.append(Run((each,)))
    return made


def _same(one: Told, other: Told) -> bool:
    return (one.sentence, one.app, one.end, one.reported) == (
        other.sentence,
        other.app,
        other.end,
        other.reported,
    )


# --- who -----------------------------------------------------------------------------------------


def parties(event: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Who acted (None: nobody but a program) and by which program, as they are named."""
    server = event.get("source", {}).get("observer", {}).get("display")
    agents = [each for each in event.get("agent", ()) if "who" in each]
    user = next((each for each in agents if _is_user(each)), None)
    others = [each for each in agents if each is not user and each["who"].get("display") != server]
    return (dict(user["who"]) if user else None), dict(others[0]["who"]) if others else {}


def _is_user(agent: Mapping[str, Any]) -> bool:
    codes = {coding.get("code") for coding in agent.get("type", {}).get("coding", ())}
    kind = agent["who"].get("reference", "").partition("/")[0]
    return bool(codes & {"humanuser", "IRCP", "AUT"}) or kind in STRANGERS


def _is_operator(client: Mapping[str, Any], names: Names) -> bool:
    """Whether it was done by a command at the server's machine."""
    id = client.get("identifier", {}).get("value") or client.get("display")
    return id == OPERATOR and id not in names.apps


def _operator(viewer: Viewer) -> str:
    return "The operator" if viewer.all else "The people who run this server"


def _within(who: str) -> str:
    """Somebody who is called by no name, within a sentence."""
    return who[:1].lower() + who[1:] if who.startswith(_NAMELESS) else who


def _who(named: Mapping[str, Any], names: Names, viewer: Viewer, reported: bool) -> str:
    reference = named.get("reference", "")
    if reference and reference == viewer.who:
        return "You"
    if reference in names.resources:
        return names.resources[reference]
    type = reference.partition("/")[0]
    if type:
        return f"{reference} (no name known)" if viewer.all else STRANGERS.get(type, "Somebody")
    if reported and not viewer.all:
        return "Somebody, as another system says,"
    login = named.get("identifier", {}).get("value")
    if login and login == viewer.account and login not in names.apps:
        return "You"
    if login in names.apps:
        return _program(named, names, viewer)
    return _nameless(named, names, viewer, login)


def _nameless(named: Mapping[str, Any], names: Names, viewer: Viewer, login: str | None) -> str:
    """Who has no resource: staff by their login, else a program or nobody known."""
    if login and viewer.all:
        return login
    if login:
        return "Somebody of the staff"
    return _program(named, names, viewer)


def _program(named: Mapping[str, Any], names: Names, viewer: Viewer) -> str:
    """A program that acts by itself."""
    app = _app(named, names, viewer)
    display = named.get("display", "")
    if display == "unauthenticated":
        return "Somebody who did not sign in"
    if display.startswith("anonymous"):
        return "Somebody at this server's machine"
    if app and "identifier" in named and named["identifier"].get("value") != OWN:
        return f"The app {app}"
    computer = "The clinic’s computer"
    return f"{computer} ({display})" if viewer.all and display else computer


def _app(named: Mapping[str, Any], names: Names, viewer: Viewer) -> str:
    """The app, as it is registered; what is part of this server is none of others."""
    display = named.get("display", "")
    id = named.get("identifier", {}).get("value") or display
    if not id or id.startswith("Salus"):
        return "the pages of this server" if id else ""
    if id in names.apps:
        return names.apps[id]
    return id if viewer.all else "an app that is not registered any more"


# --- what ----------------------------------------------------------------------------------------


def _deed(event: Mapping[str, Any]) -> tuple[Deed, bool]:
    """What was done, and whether that is a whole phrase."""
    for each in event.get("subtype", ()):
        code = each.get("code", "")
        if each.get("system") == _OWN_CODES and code in HAPPENINGS:
            return HAPPENINGS[code], True
        if code == "operation" and each.get("display") in OF_RECORDS:
            return FORESEEN if _is_dry(event) else OF_RECORDS[each["display"]], True
        if code == "operation":
            return OPERATIONS.get(each.get("display", ""), OPERATION), False
        if code in DEEDS:
            return DEEDS["create" if code == "update" and _is_first(event) else code], False
    return ACTIONS.get(event.get("action", ""), OTHER), False


def _is_dry(event: Mapping[str, Any]) -> bool:
    """Whether an event says that it was a dry run: in its outcome, or in what it was asked with."""
    said = [event.get("outcomeDesc", "")]
    for each in event.get("entity", ()):
        said += [each.get("name", ""), each.get("description", "")]
        said += [detail.get("type", "") for detail in each.get("detail", ())]
    return any(map(_DRY.search, said))


def _is_first(event: Mapping[str, Any]) -> bool:
    """Whether an update made what was not there before."""
    named = [each.get("what", {}).get("reference", "") for each in event.get("entity", ())]
    versions = [each for each in named if "/_history/" in each]
    return bool(versions) and all(each.endswith("/_history/1") for each in versions)


def _object(event: Mapping[str, Any], whose: str) -> str:
    """What it was done to: kinds of information, and whose."""
    things = _things(event)
    own = [type for type in things if type not in owners.SHARED]
    if own and whose:
        return f"{whose} {', '.join(map(kind_words, own))}"
    if things:
        return ", ".join(map(kind_words, own or things))
    return _record(whose) or "records"


def _record(whose: str) -> str:
    if not whose:
        return ""
    return f"{whose} records" if _SEVERAL.search(whose) else f"{whose} record"


def kind_words(type: str) -> str:
    """A kind of information, within a sentence."""
    if type in KINDS:
        return KINDS[type]
    words = type_words(type)
    return words[:1].lower() + words[1:]


def _things(event: Mapping[str, Any]) -> list[str]:
    """The types of what an event names, but for patients who are only whose it is."""
    found: dict[str, None] = {}
    for each in event.get("entity", ()):
        type = each.get("what", {}).get("reference", "").partition("/")[0]
        if type and not _is_whose(each):
            found[type] = None
    return list(found) or [type for each in event.get("entity", ()) for type in _searched(each)]


def _searched(entity: Mapping[str, Any]) -> Iterator[str]:
    """The type that was searched, where an entity is a query and says so: the last of its path."""
    if entity.get("role", {}).get("code") == _QUERY:
        type = entity.get("description", "").partition("?")[0].rpartition("/")[2]
        if type[:1].isupper() and type.isalpha():
            yield type


def _is_whose(entity: Mapping[str, Any]) -> bool:
    codes = {entity.get(name, {}).get("code") for name in ("type", "role")}
    return codes == {_PERSON}


def patients_of(event: Mapping[str, Any]) -> Iterator[str]:
    """Ids of the patients that an event is about, as it names them."""
    found: dict[str, None] = {}
    for each in event.get("entity", ()):
        type, _, rest = each.get("what", {}).get("reference", "").partition("/")
        if type == owners.PATIENT:
            found[rest.partition("/")[0]] = None
    yield from found


def _whose(event: Mapping[str, Any], names: Names, viewer: Viewer) -> str:
    """Whose record it was, as it stands before a thing: `your`, `Ann Able’s`; "": nobody's."""
    ids = list(patients_of(event))
    if not viewer.all:
        ids = [id for id in ids if id in viewer.patients]
        if not ids and len(viewer.patients) == 1:
            ids = list(viewer.patients)
    said = [_possessive(id, names, viewer) for id in ids[:_MOST_NAMES]]
    if len(ids) > _MOST_NAMES:
        rest = len(ids) - _MOST_NAMES
        said.append(f"{rest} other patients’" if rest > 1 else "another patient’s")
    return _listed(said)


def _listed(said: Sequence[str]) -> str:
    """As one lists in a sentence."""
    *most, last = said or [""]
    return f"{', '.join(most)} and {last}" if most else last


def _possessive(id: str, names: Names, viewer: Viewer) -> str:
    reference = f"{owners.PATIENT}/{id}"
    if reference == viewer.who:
        return "your"
    name = viewer.patients.get(id) or names.resources.get(reference)
    return f"{name}’s" if name else f"{reference}’s"


def _end(event: Mapping[str, Any]) -> str:
    """How it ended, where not well."""
    outcome = event.get("outcome", "0")
    if outcome == "0":
        return ""
    if outcome == "4" and event.get("outcomeDesc", "").partition(":")[0] in _REFUSED:
        return "Refused: nothing was shown or changed"
    if _codes(event) & {*_KEPT_OUT, "token-refused", "throttled"}:
        return "Refused"
    return "It did not work: nothing was changed"


def people_of(events: Sequence[Told]) -> dict[str, str]:
    """Who acted, by reference, for choosing one of them."""
    return {each.whom: each.who for each in events if each.whom}
