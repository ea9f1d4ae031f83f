"""A StructureDefinition that constrains another: each fault beside the fair case, and the whole
list of issues."""

from functools import cache

import pytest
from hypothesis import given, settings

from conformance import structures
from conformance.definitions import load
from conformance.outcome import Issue
from conformance.packages import Packages
from tests.conformance.mutants import mutants

HL7 = "http://hl7.org/fhir/StructureDefinition/"
OWN = "http://example.org/StructureDefinition/"
AT = "StructureDefinition.differential"


@cache
def core():
    return Packages()


def profile(*elements, type="Observation", base=None, **more):
    """A profile by its differential: each element is (id, what it says)."""
    return {
        "resourceType": "StructureDefinition",
        "url": f"{OWN}mine",
        "type": type,
        "derivation": "constraint",
        "baseDefinition": base or f"{HL7}{type}",
        "differential": {"element": [_element(id, said) for id, said in elements]},
        **more,
    }


def _element(id, said):
    steps = [step.partition(":") for step in id.split(".")]
    name = {"sliceName": steps[-1][2]} if steps[-1][2] else {}
    return {"id": id, "path": ".".join(step[0] for step in steps), **name, **said}


def by(path, type="value"):
    return {"slicing": {"discriminator": [{"type": type, "path": path}], "rules": "open"}}


def check(structure, *known):
    def find(canonical):
        own = next((each for each in known if each.get("url") == canonical), None)
        return own or core().find("StructureDefinition", canonical)

    found = structures.check(structure, find, load())
    return [(each.severity, each.code, each.expression) for each in found]


PARENT = profile(("Extension", {}), ("Extension.url", {"fixedUri": "urn:a"}), type="Extension")
DERIVED = f"{OWN}mine"
DISCRIMINATOR = f"{AT}.element[1].slicing.discriminator[0]"

# A profile that is fair, one that is not, and what is said of it.
CASES = {
    "base that is unknown": (
        profile(("Observation", {})),
        profile(("Observation", {}), base=f"{OWN}unknown"),
        [("warning", "not-found", "StructureDefinition.baseDefinition")],
    ),
    "element that is unknown": (
        profile(("Observation", {}), ("Observation.subject", {"min": 1})),
        profile(("Observation", {}), ("Observation.color", {"min": 1})),
        [("error", "processing", AT)],
    ),
    "path of another element": (
        profile(
            ("Observation", {}), ("Observation.valueQuantity", {"path": "Observation.value[x]"})
        ),
        profile(("Observation", {}), ("Observation.subject", {"path": "Observation.focus"})),
        [("error", "value", f"{AT}.element[1].path")],
    ),
    "discriminator": (
        profile(("Observation", {}), ("Observation.component", by("code.coding"))),
        profile(("Observation", {}), ("Observation.component", by("color"))),
        [("error", "invalid", DISCRIMINATOR)],
    ),
    "discriminator of a choice": (
        profile(("Observation", {}), ("Observation.category.coding", by("system"))),
        profile(("Observation", {}), ("Observation.category.coding", by("value"))),
        [("error", "invalid", DISCRIMINATOR)],
    ),
    "discriminator by a function": (
        profile(("Observation", {}), ("Observation.subject", by("resolve().id"))),
        profile(("Observation", {}), ("Observation.identifier", by("coding"))),
        [("error", "invalid", DISCRIMINATOR)],
    ),
    "url of an extension": (
        profile(
            ("Extension", {}),
            ("Extension.url", {"fixedUri": "urn:a"}),
            type="Extension",
            base=DERIVED,
        ),
        profile(
            ("Extension", {}),
            ("Extension.url", {"fixedUri": "urn:b"}),
            type="Extension",
            base=DERIVED,
        ),
        [("error", "value", AT)],
    ),
    "specialization": (
        profile(("Observation.color", {}), derivation="specialization"),
        profile(("Observation.color", {})),
        [("error", "processing", AT)],
    ),
    "malformed": (
        profile(),
        profile(("Observation", {}), ("Observation.subject", {"type": [5]})),
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_profile_fits_what_it_constrains(name):
    fair, fault, said = CASES[name]
    assert check(fair, PARENT) == []
    assert check(fault, PARENT) == said


def test_a_profile_of_itself_has_no_snapshot():
    circle = profile(("Observation", {}), base=DERIVED)
    assert check(circle, circle) == [("error", "processing", AT)]


@settings(max_examples=50, deadline=None)
@given(mutants([each for fair, fault, _ in CASES.values() for each in (fair, fault)]))
def test_nothing_that_is_malformed_raises(mutated):
    def find(canonical):
        return PARENT if canonical == DERIVED else core().find("StructureDefinition", canonical)

    for each in mutated:
        if isinstance(each, dict):
            assert all(isinstance(issue, Issue) for issue in structures.check(each, find, load()))
