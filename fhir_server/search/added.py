"""The search parameters that R4 does not have: those of guides and those that were posted, one for
each code and type, and which of them only say again what R4's own say.

https://hl7.org/fhir/R4/searchparameter.html#SearchParameter.derivedFrom
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from conformance.definitions import Definitions, SearchParameter
from conformance.fhirpath.syntax import FhirPathError
from conformance.outcome import FhirError
from fhir_server.search.defined import CLOSED, COMPOSITE, Definition, Source, define, refused
from fhir_server.search.expressions import Shape, shape
from fhir_server.search.kinds import KINDS
from fhir_server.search.parameters import Parameter, added_parameter, parts_of


class Known(NamedTuple):
    """What R4 has: `parameters` of a type by code; `compile` raises FhirPathError for a parameter
    whose expression does not fit its type."""

    definitions: Definitions
    parameters: Callable[[str], Mapping[str, Parameter]]
    compile: Callable[[Parameter], object]


class Added(NamedTuple):
    """One parameter of one type that has entries of its own; `meaning` is equal for definitions
    that give the same entries."""

    parameter: Parameter
    meaning: str
    origin: str


class Refusal(NamedTuple):
    """Why a definition has no effect on a type (None: on any)."""

    url: str
    origin: str
    type: str | None
    why: str


@dataclass(slots=True)
class Collected:
    """`added`: by type and code. `aliases`: by type and code the url of the latest definition that
    says what another parameter says. `named`: by type, which of R4's keys answer for another code,
    as they say the same."""

    added: dict[str, dict[str, Added]] = field(default_factory=dict)
    aliases: dict[tuple[str, str], str] = field(default_factory=dict)
    named: dict[str, dict[str, Parameter]] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)


def collect(known: Known, sources: Iterable[Source]) -> Collected:
    """What a set of SearchParameter resources adds. Of several with one code and type the first
    counts: whoever hands them in knows which that is."""
    found = Collected()
    composites: list[tuple[Definition, str, SearchParameter]] = []
    for source in sources:
        try:
            definition = define(source, known.definitions)
        except FhirError as error:
            url = str(source.resource.get("url", ""))
            found.refusals.append(Refusal(url, source.origin, None, error.issues[0].text))
            continue
        except (AttributeError, KeyError, TypeError):  # of a package, which nobody validated
            url, why = str(source.resource.get("url", "")), "It is no valid SearchParameter"
            found.refusals.append(Refusal(url, source.origin, None, why))
            continue
        for type, defined in definition.by_type.items():
            if defined.type == COMPOSITE:
                composites.append((definition, type, defined))
            else:
                _take(found, known, definition, type, defined)
    for definition, type, defined in composites:  # whose components are all there by now
        _take(found, known, definition, type, defined)
    return found


def require_searchable(known: Known, source: Source, others: Iterable[Source] = ()) -> None:
    """Refuse a SearchParameter that would have no effect on some of its types. FhirError 422."""
    define(source, known.definitions)
    made = collect(known, [*others, source])
    for each in made.refusals:
        if each.origin == source.origin:
            on = f" on {each.type}" if each.type else ""
            raise FhirError("not-supported", f"{each.why}{on}", "SearchParameter", status=422)


def _take(
    found: Collected, known: Known, definition: Definition, type: str, defined: SearchParameter
) -> None:
    """Put one definition on one type where it belongs."""
    try:
        if _is_alias(found, known, definition, type, defined):
            found.aliases[type, defined.code] = definition.url
        else:
            _add(found, known, definition, type, defined)
    except FhirError as error:
        why = error.issues[0].text
        found.refusals.append(Refusal(definition.url, definition.origin, type, why))


def _is_alias(
    found: Collected, known: Known, definition: Definition, type: str, defined: SearchParameter
) -> bool:
    """Whether what has this code already says the same. FhirError when it says something else."""
    code = defined.code
    own = known.parameters(type).get(code)
    if own is not None:
        if _says_what(own, definition, defined, known.definitions):
            return True
        raise refused(f"`{code}` is R4's own and means something else: take another code", "code")
    there = found.added.get(type, {}).get(code)
    if there is not None and (
        there.meaning == meaning(type, defined, known.definitions)
        or (there.parameter.definition.url == definition.url and _of_guide(definition))
    ):
        return True
    other = there.parameter if there else found.named.get(type, {}).get(code)
    if other is not None:
        text = f"`{code}` of {type} is defined by {other.definition.url} already"
        raise refused(text, "code")
    if code.startswith("_"):
        raise refused("Codes that begin with _ are R4's", "code")
    return False


def _of_guide(definition: Definition) -> bool:
    """Whether it is of a package, of which an earlier source is then a newer version."""
    return "#" in definition.origin


def _add(
    found: Collected, known: Known, definition: Definition, type: str, defined: SearchParameter
) -> None:
    """A parameter that R4 does not have. FhirError when it cannot be one."""
    parameter = _made(found, known, type, defined)
    if parameter.kind not in {*KINDS, COMPOSITE}:
        raise refused("A component names no search parameter of this type", "component.definition")
    if parameter.keys != (parameter.code,):
        found.named.setdefault(type, {})[parameter.code] = parameter
        return
    if type in CLOSED:
        raise refused(f"{type} takes no search parameters but R4's", "base")
    if parameter.kind == COMPOSITE and not _is_baked_rightly(parameter):
        text = "All but the last component of a composite must be of type token"
        raise refused(text, "component.definition")
    try:
        known.compile(parameter)
    except (FhirPathError, RecursionError) as error:
        raise refused(f"The expression cannot be used: {error}", "expression") from None
    said = meaning(type, defined, known.definitions)
    for each in parameter.components:  # whose own entries may be asked
        said = _joined(said, meaning(type, each.definition, known.definitions))
    found.added.setdefault(type, {})[parameter.code] = Added(parameter, said, definition.origin)


def _made(found: Collected, known: Known, type: str, defined: SearchParameter) -> Parameter:
    base = known.parameters(type)
    by_code = {**base, **{code: each.parameter for code, each in found.added.get(type, {}).items()}}
    urls = {url: by_code[code] for (of, code), url in found.aliases.items() if of == type}
    urls.update({each.definition.url: each for each in by_code.values()})
    keys = _cover(base, type, defined, known.definitions)
    return added_parameter(known.definitions, type, defined, keys, urls)


def _is_baked_rightly(parameter: Parameter) -> bool:
    tokens = all(each.kind == "token" for each in parameter.components[:-1])
    numbers = [each.kind for each in parameter.components[-2:]] == ["number", "number"]
    leading = all(each.kind == "token" for each in parameter.components[:-2])
    return not parameter.baked or tokens or (numbers and leading)


# --- the same, said otherwise --------------------------------------------------------------------


def _shapes(defined: SearchParameter, type: str, definitions: Definitions) -> frozenset[Shape]:
    return frozenset(shape(part, type, definitions) for part in parts_of(defined.expression))


def _says_what(
    own: Parameter, definition: Definition, defined: SearchParameter, definitions: Definitions
) -> bool:
    """Whether a definition restates R4's parameter of that code, perhaps a part of it."""
    if own.definition.type != defined.type:
        return False
    if own.definition.url in (definition.derived_from, definition.url):
        return True
    said = _shapes(defined, own.type, definitions)
    same_components = len(own.definition.components) == len(defined.components)
    return same_components and said == _shapes(own.definition, own.type, definitions)


def _cover(
    base: Mapping[str, Parameter], type: str, defined: SearchParameter, definitions: Definitions
) -> tuple[str, ...]:
    """The keys of R4's entries that are exactly those of a parameter with another code."""
    if defined.type == COMPOSITE:
        return ()
    asked = _shapes(defined, type, definitions)
    keys: list[str] = []
    covered: set[Shape] = set()
    for each in base.values():
        if each.kind != defined.type or each.only or each.code.startswith("_"):
            continue
        said = _shapes(each.definition, type, definitions)
        if said <= asked:
            keys += each.keys
            covered |= said
    return tuple(sorted(set(keys))) if covered == asked else ()


def meaning(type: str, defined: SearchParameter, definitions: Definitions) -> str:
    """Equal for two definitions that give the same entries to the resources of a type."""
    said = sorted(map(repr, _shapes(defined, type, definitions)))
    return _joined(defined.code, defined.type, *said, *map(repr, defined.components))


def _joined(*told: str) -> str:
    return hashlib.sha256(repr(told).encode()).hexdigest()[:32]
