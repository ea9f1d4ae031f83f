"""Extensions by their url: what defines them, where they may be, and what they must hold.

https://hl7.org/fhir/R4/defining-extensions.html#context
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from conformance.definitions import Definitions
from conformance.fhirpath import (
    FhirPathError,
    compile_expression,
    compile_invariant,
)
from conformance.profiles.run import Compiled, ProfileRun
from conformance.validator.rules import Rule, Run

_KEPT = 10_000  # verdicts on places that are remembered


class Rules(NamedTuple):
    """What is said of an extension that is not right."""

    unknown: Rule | None = Rule(
        "warning",
        "extension",
        "The definition of an extension with this url is not known here, so it was not checked: "
        "install the package that has it",
    )
    unknown_modifier: Rule = Rule(
        "error",
        "extension",
        "A modifierExtension whose url is not known here changes the meaning in unknown ways: "
        "install the package that defines it, or leave it out",
    )
    relative: Rule = Rule(
        "error", "extension", "The url of an extension that is in no other must be absolute"
    )
    modifier: Rule = Rule(
        "error", "extension", "This extension changes the meaning: put it into modifierExtension"
    )
    no_modifier: Rule = Rule(
        "error", "extension", "This extension changes no meaning: put it into extension"
    )
    undefined: Rule = Rule(
        "error", "extension", "The definition of the extension around it knows no part of that url"
    )


class Defined(NamedTuple):
    """The definition of an extension. `within` are the elements it may be on, `inside` the urls
    of the extensions it may be in, `paths` the FHIRPath of what it may be on; `parts` the urls of
    its own extensions, None where others may be too."""

    profile: Compiled
    modifier: bool
    within: frozenset[str]
    inside: frozenset[str]
    paths: tuple[str, ...]
    conditions: tuple[str, ...]
    parts: frozenset[str]
    misplaced: Rule
    untrue: Rule


# Where R4 itself has an extension that its definition does not allow there.
ERRATA: Mapping[str, tuple[dict[str, str], ...]] = {
    "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type": (
        {"type": "element", "expression": "ElementDefinition.type"},
    ),
}


def defined(structure: Mapping[str, Any], profile: Compiled) -> Defined:
    """What a StructureDefinition of an extension says."""
    contexts = [each for each in structure.get("context", ()) if type(each) is dict]
    contexts += ERRATA.get(str(structure.get("url")), ())
    by_kind = {
        kind: [str(each.get("expression")) for each in contexts if each.get("type") == kind]
        for kind in ("element", "extension", "fhirpath")
    }
    tree = getattr(profile, "tree", None)
    own = tree.children.get("extension") if tree is not None else None
    parts = own.slices.values() if own is not None else ()
    urls = [each.children["url"].value("fixed") for each in parts if "url" in each.children]
    where = ", ".join(str(each.get("expression")) for each in contexts[:8]) or "nothing"
    return Defined(
        profile,
        tree is not None and tree.element.get("isModifier") is True,
        frozenset(each.rpartition("#")[2] or each for each in by_kind["element"]),
        frozenset(by_kind["extension"]),
        tuple(by_kind["fhirpath"]),
        tuple(each for each in structure.get("contextInvariant", ()) if type(each) is str),
        frozenset(str(each) for each in urls if each),
        Rule("error", "extension", f"The extension {profile.label} may be only on {where}"),
        Rule(
            "error",
            "extension",
            f"The extension {profile.label} may be only where its conditions hold: "
            + "; ".join(structure.get("contextInvariant", ())),
        ),
    )


class Contexts:
    """Where extensions may be."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self._known: dict[tuple[str, str], bool] = {}

    def fits(self, one: Defined, holder: dict[str, Any], path: str, run: Run) -> bool:
        """Whether an extension may be on `holder`, an element at `path` (as the definitions have
        it)."""
        key = (one.profile.label, path)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[key] = not one.within.isdisjoint(self.names(path))
        if found or not (one.within or one.inside or one.paths):
            return True
        if path == "Extension" and holder.get("url") in one.inside:
            return True
        return any(self._selects(each, holder, run) for each in one.paths)

    def names(self, path: str) -> set[str]:
        """Every name that a context may have for an element."""
        structures = self._definitions.structures
        found = {path, path.removesuffix("[x]"), "Element"}
        if path in structures:
            types = [path]
        else:
            types = [each.code for each in self._definitions.element(path).types]
        for type_ in types:
            at: str | None = type_
            while at is not None and at in structures:
                found.add(at)
                at = structures[at].base
        return found

    def holds(self, one: Defined, holder: dict[str, Any], path: str, run: Run) -> bool:
        """Whether its conditions hold on what it is on. One that asks about the extension itself
        (%extension) is left out."""
        for each in one.conditions:
            if "%extension" in each:
                continue
            try:
                meets = compile_invariant(each, path, self._definitions, bounded=True)
                if meets(holder, run.environment) is False:
                    return False
            except FhirPathError:
                continue
        return True

    def _selects(self, expression: str, holder: dict[str, Any], run: Run) -> bool:
        resource = cast(dict[str, Any], run.environment.resource)
        type_ = str(resource.get("resourceType"))
        try:
            session = cast(ProfileRun, run).session
            allowance = session.allowance
            find = compile_expression(expression, type_, self._definitions, budget=allowance)
            found = find(resource, session.around(resource, resource))
        except FhirPathError:
            return True
        return any(value is holder or beside is holder for _, value, beside in found)
