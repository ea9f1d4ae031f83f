"""The search parameters of a type as the index knows them: which have entries of their own, and
which are answered from the entries of others.

https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from conformance.definitions import Definitions, SearchParameter

# What a parameter is when its definition does not say: the names of people as they sound.
PHONETIC = "phonetic"

# Composites whose two components name each other's parameters in R4 4.0.1: `code` is a relation,
# `target` what it relates to.
_SWAPPED = frozenset({"http://hl7.org/fhir/SearchParameter/DocumentReference-relationship"})

_NARROWED = re.compile(r"(?P<path>.+)\.where\(resolve\(\) is (?P<type>[A-Za-z]+)\)")
_PLAIN = re.compile(r"[A-Za-z]+(?:\.[A-Za-z]+)*")
_RANGES = frozenset({"date", "number", "quantity"})


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter of one type. `keys` are the entries that answer it: its own code, or,
    when it says the same as other parameters, theirs. `only` restricts a reference to one type.

    A composite is one of three: a union (`members`, composites themselves); a `conjunction`,
    whose components speak of the resource itself, so that it holds when each of them holds; or
    one with entries of its own, which bear the leading components in their key. A conjunction that
    ends in a range has entries as well, `baked`, since no engine joins a range cheaply."""

    type: str
    code: str
    kind: str
    definition: SearchParameter
    keys: tuple[str, ...]
    targets: tuple[str, ...] = ()
    only: str | None = None
    components: tuple[Parameter, ...] = ()
    members: tuple[Parameter, ...] = ()
    conjunction: bool = False
    baked: bool = False

    @property
    def own(self) -> bool:
        """Whether entries are written under its own code."""
        return self.keys == (self.code,)


def parameters(definitions: Definitions, type: str) -> Mapping[str, Parameter]:
    """The search parameters of a resource type, by code."""
    defined = definitions.parameters(type)
    parts = {code: parts_of(each.expression) for code, each in defined.items()}
    simple = {
        code: _simple(definitions, type, each, parts)
        for code, each in defined.items()
        if each.type != "composite"
    }
    return {**simple, **_composites(type, defined, parts, simple)}


def _simple(
    definitions: Definitions,
    type: str,
    defined: SearchParameter,
    parts: Mapping[str, frozenset[str]],
) -> Parameter:
    kind = PHONETIC if defined.code == PHONETIC else defined.type
    asked = parts[defined.code]
    only = _narrowed_to(asked)
    if only:
        asked = frozenset(part.rpartition(".where(")[0] for part in asked)
    keys = _cover(definitions.parameters(type), defined, asked, bool(only), parts)
    targets = (only,) if only else _targets(definitions, defined, asked)
    return Parameter(type, defined.code, kind, defined, keys or (defined.code,), targets, only)


def parts_of(expression: str) -> frozenset[str]:
    """The parts of the union that an expression is."""
    parts, depth, quoted, start = [], 0, False, 0
    for at, each in enumerate(expression):
        quoted ^= each == "'"
        if quoted:
            continue
        depth += (each in "([") - (each in ")]")
        if each == "|" and depth == 0:
            parts.append(expression[start:at].strip())
            start = at + 1
    return frozenset([*parts, expression[start:].strip()])


def _narrowed_to(parts: Iterable[str]) -> str | None:
    """The type T when each part ends in where(resolve() is T)."""
    types = {found["type"] if (found := _NARROWED.fullmatch(part)) else None for part in parts}
    return types.pop() if len(types) == 1 else None


def _cover(
    defined: Mapping[str, SearchParameter],
    of: SearchParameter,
    asked: frozenset[str],
    narrowed: bool,
    parts: Mapping[str, frozenset[str]],
) -> tuple[str, ...]:
    """The other parameters whose values, taken together, are exactly those of this one. Of several
    that say the same, the first by code has the entries."""
    if of.code == PHONETIC:
        return ()
    candidates = {
        code: parts[code]
        for code, each in defined.items()
        if each.type == of.type
        and code not in (of.code, PHONETIC)
        and parts[code] <= asked
        and (narrowed or parts[code] < asked or code < of.code)
    }
    largest = [
        code
        for code, these in candidates.items()
        if not any(
            these < others or (these == others and other < code)
            for other, others in candidates.items()
        )
    ]
    covered = frozenset().union(*(candidates[code] for code in largest))
    return tuple(sorted(largest)) if covered == asked else ()


def _targets(
    definitions: Definitions, defined: SearchParameter, parts: Iterable[str]
) -> tuple[str, ...]:
    """The types that a reference may name: those of the parameter that its elements allow too."""
    if defined.type != "reference":
        return ()
    allowed: set[str] = set()
    for part in parts:
        try:
            element = definitions.element(part if _PLAIN.fullmatch(part) else "")
        except KeyError:
            return defined.targets
        for each in element.types:
            allowed.update(each.targets or ("Resource",))
    if "Resource" in allowed:
        return defined.targets
    return tuple(each for each in defined.targets if each in allowed) or defined.targets


def added_parameter(
    definitions: Definitions,
    type: str,
    defined: SearchParameter,
    keys: tuple[str, ...],
    by_url: Mapping[str, Parameter],
) -> Parameter:
    """A parameter that R4 does not have. `keys`: of the entries that answer it, where others have
    them; `by_url`: what the components of a composite may name."""
    if defined.type == "composite":
        return _composite(type, defined, by_url)
    asked = parts_of(defined.expression)
    only = _narrowed_to(asked)
    if only:
        asked = frozenset(part.rpartition(".where(")[0] for part in asked)
    targets = (only,) if only else _targets(definitions, defined, asked)
    return Parameter(
        type, defined.code, defined.type, defined, keys or (defined.code,), targets, only
    )


# --- composites ----------------------------------------------------------------------------------


def _composites(
    type: str,
    defined: Mapping[str, SearchParameter],
    parts: Mapping[str, frozenset[str]],
    simple: Mapping[str, Parameter],
) -> Mapping[str, Parameter]:
    by_url = {each.definition.url: each for each in simple.values()}
    single = {
        code: _composite(type, each, by_url)
        for code, each in defined.items()
        if each.type == "composite" and len(parts[code]) == 1
    }
    unions = {
        code: _union(type, each, parts, single, by_url)
        for code, each in defined.items()
        if each.type == "composite" and len(parts[code]) > 1
    }
    return {**single, **unions}


def _composite(type: str, defined: SearchParameter, by_url: Mapping[str, Parameter]) -> Parameter:
    components = tuple(by_url[url] for url, _ in defined.components if url in by_url)
    if defined.url in _SWAPPED:
        components = components[::-1]
    if len(components) != len(defined.components):
        return Parameter(type, defined.code, "special", defined, (defined.code,))
    conjunction = defined.expression == type
    baked = not conjunction or (
        components[-1].kind in _RANGES and all(each.kind == "token" for each in components[:-1])
    )
    return Parameter(
        type,
        defined.code,
        "composite",
        defined,
        (defined.code,),
        components=components,
        conjunction=conjunction,
        baked=baked,
    )


def _union(
    type: str,
    defined: SearchParameter,
    parts: Mapping[str, frozenset[str]],
    single: Mapping[str, Parameter],
    by_url: Mapping[str, Parameter],
) -> Parameter:
    """A composite over several kinds of node: others that each take one of them, with the same
    components, answer it."""
    expressions = [expression for _, expression in defined.components]
    members = tuple(
        each
        for code, each in single.items()
        if parts[code] <= parts[defined.code]
        and [expression for _, expression in each.definition.components] == expressions
    )
    covered = {part for each in members for part in parts[each.code]}
    made = _composite(type, defined, by_url)
    if covered != parts[defined.code]:
        return made
    return replace(made, keys=tuple(each.code for each in members), members=members, baked=False)
