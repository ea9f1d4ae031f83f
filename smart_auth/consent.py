"""What a person can choose of what an app asks for, and the scopes that follow from the choice.

A form offers one tick for each type of data, for seeing and for changing it, and beneath Condition
and Observation one for each kind. A tick never adds anything: it keeps what was asked, whole where
nothing was unticked, else in the parts that are left.
https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from smart_auth.authority import Directory
from smart_auth.grant import LETTERS, Scope
from smart_auth.kinds import CLINICAL, KINDS, Kind, Query
from smart_auth.scopes import (
    FHIR_USER,
    OFFLINE,
    ONLINE,
    OPENID,
    Asked,
    read_scopes,
    written,
)

MODES = {"see": "rs", "change": "cud"}  # what a tick is about, and the letters of it
REST = "*"  # the tick of all types that have none of their own
# Ticks that are not about clinical data, and the scopes that they stand for.
PLAIN = {"identity": (OPENID, FHIR_USER), "offline": (OFFLINE,), "online": (ONLINE,)}


class Tick(NamedTuple):
    """One field of the form. `limit`: parameters that the data is limited to, when no kind says
    it; `kinds`: when one of these is ticked, only those that are ticked remain."""

    field: str
    type: str
    kind: Kind | None = None
    limit: Query = ()
    kinds: tuple[Tick, ...] = ()


class Form(NamedTuple):
    """Everything that can be ticked, and all of it is at first, but for the kinds."""

    see: tuple[Tick, ...]
    change: tuple[Tick, ...]
    plain: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """What is sent when nothing is unticked."""
        return (*(tick.field for tick in (*self.see, *self.change)), *self.plain)


def form(scopes: Iterable[str], directory: Directory) -> Form:
    """What can be ticked of scopes that may be granted."""
    asked = read_scopes(" ".join(scopes))
    texts = {each.text for each in asked}
    plain = tuple(name for name, stands in PLAIN.items() if texts.intersection(stands))
    return Form(_ticks("see", asked, directory), _ticks("change", asked, directory), plain)


def granted(
    scopes: Iterable[str], ticked: Collection[str], directory: Directory
) -> tuple[str, ...]:
    """The scopes that are left, as texts, in the order and syntax in which they were asked. What
    is ticked but was not asked has no effect."""
    refused = {text for name, these in PLAIN.items() if name not in ticked for text in these}
    asked = read_scopes(" ".join(scopes))
    choice = _Choice(ticked, {mode: _types(mode, asked, directory) for mode in MODES}, directory)
    found: dict[str, None] = {}
    for each in asked:
        if each.clinical:
            found |= dict.fromkeys(_left(each, each.clinical, choice))
        elif each.text not in refused:
            found[each.text] = None
    return tuple(found)


class _Choice(NamedTuple):
    """`types`: by mode, those that a tick of the whole type was offered for."""

    ticked: Collection[str]
    types: dict[str, set[str]]
    directory: Directory


# --- the form ------------------------------------------------------------------------------------


def _ticks(mode: str, asked: Iterable[Asked], directory: Directory) -> tuple[Tick, ...]:
    types = _types(mode, asked, directory)
    limited = {
        (scope.type, scope.query): None
        for scope in _speaking(mode, asked)
        if scope.query and scope.type not in types
    }
    offered = [_whole(mode, type) for type in types]
    offered += [_limited(mode, type, query) for type, query in limited]
    return tuple(sorted(offered, key=lambda tick: (_order(tick.type), tick.field)))


def _types(mode: str, asked: Iterable[Asked], directory: Directory) -> set[str]:
    """The types that are asked for as a whole; a wildcard's have ticks of their own when there are
    words for them, the others one together."""
    found: set[str] = set()
    for scope in _speaking(mode, asked):
        if not scope.query:
            found.add(REST if scope.type == "*" else scope.type)
            if scope.type == "*":
                found.update(each for each in CLINICAL if _has(scope, each, directory))
    return found


def _speaking(mode: str, asked: Iterable[Asked]) -> Iterable[Scope]:
    """The clinical scopes that a mode is about."""
    for each in asked:
        if each.clinical and set(each.clinical.letters) & set(MODES[mode]):
            yield each.clinical


def _has(scope: Scope, type: str, directory: Directory) -> bool:
    one = scope._replace(type=type)
    return type in directory.types() and directory.ungrantable(one) is None


def _whole(mode: str, type: str) -> Tick:
    field = f"{mode}.{type}"
    kinds = KINDS.get(type, ()) if mode == "see" else ()
    return Tick(field, type, kinds=tuple(Tick(f"{field}.{k.name}", type, k) for k in kinds))


def _limited(mode: str, type: str, query: Query) -> Tick:
    kind = _kind(type, query)
    return Tick(_field(mode, type, query), type, kind, () if kind else query)


def _field(mode: str, type: str, query: Query) -> str:
    kind = _kind(type, query)
    name = kind.name if kind else hashlib.sha256(repr(query).encode()).hexdigest()[:12]
    return f"{mode}.{type}.{name}"


def _kind(type: str, query: Query) -> Kind | None:
    """The kind that a granular scope asks for by itself."""
    return next((k for k in KINDS.get(type, ()) if k.queries == (query,)), None)


def _order(type: str) -> tuple[int, str]:
    known = list(CLINICAL)
    return (known.index(type) if type in CLINICAL else len(known), type.replace(REST, "~"))


# --- the choice ----------------------------------------------------------------------------------


def _left(asked: Asked, scope: Scope, choice: _Choice) -> Sequence[str]:
    """What is left of one scope."""
    if scope.type != "*" or scope.query:
        return _texts(asked, scope, _kept(scope, choice))
    own = [
        type
        for type in sorted(choice.types["see"] | choice.types["change"], key=_order)
        if type != REST and _has(scope, type, choice.directory)
    ]
    each = {type: _kept(scope._replace(type=type), choice) for type in own}
    rest = _kept(scope, choice)
    if all(kept == rest for kept in each.values()):
        return _texts(asked, scope, rest)
    refused = tuple(type for type in own if not any(each[type].values()))
    each |= {
        type: rest
        for type in sorted(choice.directory.types() - set(own))
        # Some clients take a refused type as granted when the name of another begins with it.
        if not type.startswith(refused) and _has(scope, type, choice.directory)
    }
    return [
        text
        for type, kept in each.items()
        for text in _texts(asked, scope._replace(type=type), kept)
    ]


def _kept(scope: Scope, choice: _Choice) -> dict[str, tuple[Query, ...]]:
    """By mode that a scope speaks of, the queries that are left of it; none: refused."""
    modes = (mode for mode, letters in MODES.items() if set(letters) & set(scope.letters))
    return {mode: _kept_of(mode, scope, choice) for mode in modes}


def _kept_of(mode: str, scope: Scope, choice: _Choice) -> tuple[Query, ...]:
    ticked, types = choice.ticked, choice.types[mode]
    if scope.query and scope.type not in types:
        return (scope.query,) if _field(mode, scope.type, scope.query) in ticked else ()
    field = f"{mode}.{scope.type if scope.type in types else REST}"
    kinds = KINDS.get(scope.type, ()) if mode == "see" else ()
    chosen = [kind for kind in kinds if f"{field}.{kind.name}" in ticked]
    if not chosen:
        return (scope.query,) if field in ticked else ()
    if scope.query:
        return (scope.query,) if _kind(scope.type, scope.query) in chosen else ()
    return tuple(query for kind in chosen for query in kind.queries)


def _texts(asked: Asked, scope: Scope, kept: dict[str, tuple[Query, ...]]) -> Sequence[str]:
    """A scope as it is left."""
    left: dict[Query, set[str]] = {}
    for mode, queries in kept.items():
        for query in queries:
            left.setdefault(query, set()).update(set(MODES[mode]) & set(scope.letters))
    return [_text(asked, scope, query, letters) for query, letters in left.items()]


def _text(asked: Asked, scope: Scope, query: Query, letters: Collection[str]) -> str:
    left = Scope(
        scope.context, scope.type, "".join(each for each in LETTERS if each in letters), query
    )
    if left == asked.clinical:
        return asked.text
    if query and query == scope.query:  # as the client wrote it
        return f"{written(left._replace(query=()))}?{asked.text.partition('?')[2]}"
    return written(left, 2 if query else asked.version or 2)
