"""What a caller may do and which resources it may see, decided from its grant: asked by every path.

Deny is the default: what is not granted, not known or not understood gives nothing.
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from conformance.outcome import FhirError
from fhir_server import owners
from fhir_server.core import Core
from fhir_server.interaction import Interaction
from fhir_server.search import kinds
from fhir_server.search.chains import read
from fhir_server.search.context import SearchContext
from fhir_server.search.index import CONTEXT, Index
from fhir_server.search.references import link
from fhir_server.storage.store import (
    EVENTS,
    EVERYTHING,
    ID,
    NOTHING,
    All,
    AnyOf,
    Condition,
    Match,
    Not,
    Query,
    RefersTo,
)
from smart_auth.grant import LETTERS as LETTERS_OF_ALL
from smart_auth.grant import Grant, Scope

ANY = "*"
_MINUTE = 60_000_000  # microseconds for which a relative date in a scope stands still

# The letter of a scope that an interaction needs on its type.
LETTERS: Mapping[str, str] = {
    "read": "r",
    "vread": "r",
    "history-instance": "r",
    "search-type": "s",
    "history-type": "s",
    "create": "c",
    "update": "u",
    "patch": "u",
    "delete": "d",
}
# Judged elsewhere: by nobody, entry by entry, and when the types that it names are known.
_OPEN = frozenset({"capabilities", "batch", "transaction", "search-system"})

# Elements that name resources of several people: who may see one of these sees the others only
# where they are visible too. Of a type the elements, and where in each of them the reference is.
CONCEALED: Mapping[str, Mapping[str, str | None]] = {
    "Provenance": {"target": None, "entity": "what"},
    EVENTS: {"entity": "what"},
}
# Parameters of what may be cut that tell of it otherwise than by what is referred to.
_TELLING: Mapping[str, frozenset[str]] = {
    "Provenance": frozenset({"signature-type"}),
    EVENTS: frozenset({"entity-name", "entity-role", "entity-type"}),
}
# A search parameter of a granular scope: no modifier, no chain, none of ours.
_PLAIN = re.compile(r"_?[A-Za-z][A-Za-z0-9\-]*", re.ASCII)


# --- may this caller do this to this type --------------------------------------------------------


def check(core: Core, grant: Grant, asked: Interaction) -> None:
    """Refuse an interaction before anything is read, looking only at the request and the grant.
    FhirError 403."""
    if grant.unrestricted or asked.code in _OPEN:
        return
    if asked.code == "operation":
        _check_operation(core, grant, asked)
        return
    type = asked.type or ANY
    letter = "s" if asked.code == "history-system" else LETTERS[asked.code]
    if not covers(grant, type, letter) and not _is_agent(grant, asked, letter):
        raise refusal(asked.code, asked.type)
    if asked.condition is not None and not covers(grant, type, "s"):
        raise refusal(f"a conditional {asked.code}", asked.type)
    if asked.code == "create" and type == EVENTS and not _is_everyones(grant, type, letter):
        raise refusal(asked.code, asked.type)


def check_read(grant: Grant, asked: Interaction) -> None:
    """Refuse an interaction that asks what a resource says, for want of the letter r. FhirError
    403."""
    if not covers(grant, asked.type or ANY, "r") and not _is_agent(grant, asked, "r"):
        raise refusal(f"a {asked.code} that tests what is there", asked.type)


def check_search(grant: Grant, type: str) -> None:
    """Refuse to search a type (`*`: all of them) that a request names. FhirError 403."""
    if not covers(grant, type, "s"):
        raise refusal("search-type", None if type == ANY else type)


def _check_operation(core: Core, grant: Grant, asked: Interaction) -> None:
    known = core.operations.get(asked.operation or "")
    if known is not None and known.own:
        return
    letters = known.letters if known else ""
    type = asked.type or ANY
    if letters and all(
        covers(grant, type, each) or _is_agent(grant, asked, each) for each in letters
    ):
        return
    raise refusal(f"${asked.operation}", asked.type)


def refusal(what: str, type: str | None) -> FhirError:
    """403: no scope speaks of it."""
    on = f" on {type}" if type else ""
    return FhirError("forbidden", f"This grant does not allow {what}{on}")


def _is_agent(grant: Grant, asked: Interaction, letter: str) -> bool:
    """Whether the caller asks to read its own resource, as `openid fhirUser` allows."""
    return letter == "r" and grant.identity and grant.agent == f"{asked.type}/{asked.id}"


def _is_everyones(grant: Grant, type: str, letter: str) -> bool:
    return limit(grant) is None and covers(grant, type, letter)


@lru_cache(maxsize=16_384)
def covers(grant: Grant, type: str, letter: str) -> bool:
    """Whether some scope speaks of this letter on a type (`*`: on every type)."""
    return grant.unrestricted or any(each.covers(type, letter) for each in in_force(grant))


@lru_cache(maxsize=4_096)
def in_force(grant: Grant) -> tuple[Scope, ...]:
    """The scopes that count: those of a system stand alone, or not at all."""
    others = tuple(each for each in grant.scopes if each.context != "system")
    return others or grant.scopes


def administers(grant: Grant) -> bool:
    """Whether the caller may do everything on the whole system, by `system/*.cruds` or without any
    restriction: what changes how the server treats everybody is for nobody else."""
    scopes = in_force(grant)
    return grant.unrestricted or (
        limit(grant) is None
        and all(each.context == "system" and not each.query for each in scopes)
        and all(any(each.covers("*", letter) for each in scopes) for letter in LETTERS_OF_ALL)
    )


@lru_cache(maxsize=4_096)
def limit(grant: Grant) -> frozenset[str] | None:
    """The ids of the patients whose data is all that the grant opens; None: it is not limited. One
    `patient/` scope limits the whole grant."""
    contexts = {each.context for each in in_force(grant)}
    if grant.unrestricted or contexts == {"system"}:
        return None
    if grant.confined or "patient" in contexts:
        return frozenset({grant.patient} if grant.patient else ())
    return grant.reach if "user" in contexts else frozenset()


# --- which resources -----------------------------------------------------------------------------


def visible(core: Core, grant: Grant, type: str, letter: str) -> Query:
    """The resources of a type that the caller may reach with a letter, as a Query to be ANDed at
    every node. It is the very object EVERYTHING where nothing limits the caller."""
    if grant.unrestricted:
        return EVERYTHING
    return _visible(core.index, grant, type, letter, core.clock() // _MINUTE)


@lru_cache(maxsize=16_384)
def _visible(index: Index, grant: Grant, type: str, letter: str, minute: int) -> Query:
    found = [
        _granted(index, grant, scope, type, letter, minute)
        for scope in in_force(grant)
        if scope.covers(type, letter)
    ]
    if letter == "r" and grant.identity and (grant.agent or "").startswith(f"{type}/"):
        found.append(with_ids([(grant.agent or "").partition("/")[2]]))
    return _any_of(found)


def _granted(
    index: Index, grant: Grant, scope: Scope, type: str, letter: str, minute: int
) -> Query:
    """What one scope opens: its context's resources that meet all of its parameters."""
    try:
        asked = [
            _condition(index, type, name, value, minute * _MINUTE) for name, value in scope.query
        ]
    except FhirError:
        return NOTHING
    ids = _patients(grant, scope)
    base = EVERYTHING if ids is None else _compartments(index, grant, ids, type, letter, minute)
    return _all_of([base, *asked])


def _patients(grant: Grant, scope: Scope) -> frozenset[str] | None:
    """The patients whose compartments a scope opens; None: all resources, whosever."""
    ids = limit(grant)
    if scope.context == "user" and ids is not None and grant.reach is not None:
        ids &= grant.reach
    return ids


def _compartments(
    index: Index, grant: Grant, ids: frozenset[str], type: str, letter: str, minute: int
) -> Query:
    """The resources of a type that are these patients', by the table in owners.py."""
    if not ids:
        return NOTHING
    if type in owners.SHARED:
        return EVERYTHING if letter in "rs" else NOTHING
    if type in owners.DECIDING and letter not in "rs":
        return NOTHING
    if type == owners.PATIENT:
        return with_ids(ids)
    if type in _BORROWING:
        return _borrowed(index, grant, ids, type, minute)
    keys = sorted(owners.belonging(type, index))
    return _any_of(link(key, (owners.PATIENT,), ids) for key in keys)


# What is visible where something is that it names, under which key. Neither counts for the other's.
_BORROWING: Mapping[str, str] = {"Provenance": "target", "Binary": CONTEXT}


def _borrowed(index: Index, grant: Grant, ids: frozenset[str], type: str, minute: int) -> Query:
    key = _BORROWING[type]
    others = [each for each in sorted(index.definitions.types) if each not in _BORROWING]
    if type == "Binary":
        own = link(key, (owners.PATIENT,), ids)
        return _any_of([own, *_leading(index, grant, key, others, minute)])
    # What is shared is no reason: who imported an organisation with many patients says so of all.
    theirs = [each for each in others if each not in owners.SHARED]
    return _any_of(_leading(index, grant, key, theirs, minute))


def _leading(
    index: Index, grant: Grant, key: str, types: Iterable[str], minute: int, *asked: Query
) -> Iterator[Query]:
    """That a link of this key leads to something that the caller may read or find."""
    for type in types:
        if type == EVENTS:  # nobody learns of an event by what refers to it
            continue
        seen = _any_of(_visible(index, grant, type, letter, minute) for letter in "rs")
        if seen != NOTHING:
            yield RefersTo(key, type, _all_of([*asked, seen]))


class _Owned(NamedTuple):
    """What the owner of a resource tells: whose is visible wholly, and whose perhaps."""

    wholly: frozenset[str]
    perhaps: frozenset[str]


def settled(core: Core, grant: Grant, type: str, letter: str, owner: str | None) -> bool | None:
    """Whether a live resource is visible, where its one owner says so already; None: ask `visible`.
    The owner is the one patient that the entries name by which a resource is in a compartment."""
    told = _owned(core.index, grant, type, letter)
    if owner is None or told is None:
        return None
    if owner in told.wholly:
        return True
    return None if owner in told.perhaps else False


def owners_tell(core: Core, grant: Grant, type: str, letter: str) -> bool:
    """Whether `settled` may know anything of resources of this type."""
    return _owned(core.index, grant, type, letter) is not None


@lru_cache(maxsize=16_384)
def _owned(index: Index, grant: Grant, type: str, letter: str) -> _Owned | None:
    """None where the owner says nothing: of what is not in compartments by just what it owns."""
    scopes = [each for each in in_force(grant) if each.covers(type, letter)]
    own = letter == "r" and grant.identity and (grant.agent or "").startswith(f"{type}/")
    if own or limit(grant) is None or not owners.decides(type, index):
        return None
    wholly, perhaps = set[str](), set[str]()
    for scope in scopes:
        names = {f"{owners.PATIENT}/{id}" for id in _patients(grant, scope) or ()}
        perhaps |= names
        if not scope.query:
            wholly |= names
    return _Owned(frozenset(wholly), frozenset(perhaps))


def forget() -> None:
    """Compile anew what grants allow: the search parameters changed."""
    _visible.cache_clear()


def shown(core: Core, grant: Grant, type: str) -> Query:
    """The resources of a type that the caller may read or find: what it may know to be there when
    something refers to it."""
    if type == EVENTS:
        return EVERYTHING if grant.unrestricted else NOTHING
    return _any_of(visible(core, grant, type, letter) for letter in "rs")


def with_ids(ids: Iterable[str]) -> Query:
    """The resources with these ids."""
    these = tuple(ids)
    if len(these) == 1:
        return Match(ID, "token", (Condition("code", "eq", these[0]),))
    return Match(ID, "token", (Condition("code", "in", frozenset(these)),))


def _all_of(queries: Iterable[Query]) -> Query:
    """All of them, and no more nodes than that takes."""
    parts = tuple(dict.fromkeys(each for each in queries if each != EVERYTHING))
    if NOTHING in parts:
        return NOTHING
    if not parts:
        return EVERYTHING
    return parts[0] if len(parts) == 1 else All(parts)


def _any_of(queries: Iterable[Query]) -> Query:
    """Any of them, and no more nodes than that takes."""
    parts = tuple(dict.fromkeys(each for each in queries if each != NOTHING))
    if EVERYTHING in parts:
        return EVERYTHING
    if not parts:
        return NOTHING
    return parts[0] if len(parts) == 1 else AnyOf(parts)


# --- granular scopes -----------------------------------------------------------------------------


def grantable(scope: Scope, index: Index, now: int) -> str | None:
    """Why a scope cannot be granted here, as a sentence; None when it can. `now`: microseconds
    since 1970, for values that are relative to it."""
    types = index.definitions.types
    if scope.type != ANY and scope.type not in types:
        return "The scope names a resource type that R4 does not have"
    for type in sorted(types) if scope.type == ANY else [scope.type]:
        for name, value in scope.query:
            try:
                _condition(index, type, name, value, now)
            except FhirError as error:
                return f"The scope's parameter cannot be used: {error.issues[0].text}"
    return None


def _condition(index: Index, type: str, name: str, value: str, now: int) -> Query:
    """A parameter of a granular scope, read as a search reads it. FhirError for whatever is not a
    plain parameter of the type with a value that can be read."""
    parameter = index.parameters(type).get(name) if _PLAIN.fullmatch(name) else None
    if parameter is None or parameter.kind not in kinds.KINDS:
        raise FhirError(
            "not-supported", f"A scope takes plain search parameters of {type}", status=400
        )
    return read(
        type,
        name,
        value,
        SearchContext(index.definitions, index, index.base_url, index.timezone, now),
    )


# --- what a search may ask of what is cut --------------------------------------------------------


def conceal(core: Core, grant: Grant, type: str, query: Query) -> Query:
    """A query of a caller's on a type, so that references that are cut from what leaves cannot be
    found out by searching for them."""
    if type not in CONCEALED or limit(grant) is None:
        return query
    return _concealed(core.index, grant, type, query, core.clock() // _MINUTE)


def _concealed(index: Index, grant: Grant, type: str, query: Query, minute: int) -> Query:
    match query:
        case All():
            return All(
                tuple(_concealed(index, grant, type, each, minute) for each in query.queries)
            )
        case AnyOf():
            return AnyOf(
                tuple(_concealed(index, grant, type, each, minute) for each in query.queries)
            )
        case Not():
            return Not(_concealed(index, grant, type, query.query, minute))
        case RefersTo() if query.param in CONCEALED[type]:
            inner = query.query
            return _any_of(_leading(index, grant, query.param, [query.type], minute, inner))
        case Match() if query.param in CONCEALED[type]:
            return _leads_to_visible(index, grant, query, minute)
        case Match() if _code_of(query.param) in {*CONCEALED[type], *_TELLING[type]}:
            return NOTHING
    return query


def _code_of(key: str) -> str:
    """The code of the parameter that an entry's key is of."""
    return key.partition(":")[0]


def _leads_to_visible(index: Index, grant: Grant, query: Match, minute: int) -> Query:
    """A match on a link that is cut unless it leads to what is visible."""
    if query.shape != "link":
        return NOTHING
    types, asked = set(index.definitions.types), list[Query]()
    for condition in query.conditions:
        if condition.field == "system":
            value = condition.value
            types &= value if isinstance(value, frozenset) else {str(value)}
        else:
            asked.append(Match(ID, "token", (condition,)))
    return _any_of(_leading(index, grant, query.param, sorted(types), minute, *asked))
