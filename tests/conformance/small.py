"""Small profiles by their differentials, and what is wrong with a resource by them."""

from conformance.definitions import load
from conformance.json import encode, parse
from conformance.packages import Packages
from conformance.profiles import Profiles
from tests.conformance.listed_codes import ListedCodes

OWN = "http://example.org/StructureDefinition/"
SYSTEM = "http://example.org/codes"


class Library:
    """The core of R4 and the profiles of one test."""

    def __init__(self, *structures):
        self._core = Packages()
        self._own = {each["url"]: each for each in structures}

    def find(self, type, canonical):
        own = self._own.get(canonical.partition("|")[0])
        if own is not None and own["resourceType"] == type:
            return own
        return self._core.find(type, canonical)


def profile(name, type, *elements, base=None, **more):
    """A profile by its differential: each element is (id, what it says)."""
    return parse(
        encode(
            {
                "resourceType": "StructureDefinition",
                "url": OWN + name,
                "name": name,
                "status": "draft",
                "kind": "complex-type" if type == "Extension" else "resource",
                "abstract": False,
                "type": type,
                "baseDefinition": base or f"http://hl7.org/fhir/StructureDefinition/{type}",
                "derivation": "constraint",
                "differential": {"element": [_element(id, said) for id, said in elements]},
                **more,
            }
        )
    )


def _element(id, said):
    path = ".".join(step.partition(":")[0] for step in id.split("."))
    name = id.rpartition(".")[2].partition(":")[2]
    return {"id": id, "path": path, **({"sliceName": name} if name else {}), **said}


def slicing(kind, path, rules="open", ordered=False):
    return {"discriminator": [{"type": kind, "path": path}], "rules": rules, "ordered": ordered}


def errors(resource, *structures, name="mine"):
    library = Library(*structures)
    known = Profiles(load(), library, ListedCodes(Packages()))
    found = known.validate(resource, [OWN + name])
    assert not any("cannot be read" in each.text for each in found)
    return [[each.code, each.expression] for each in found if each.severity == "error"]


def observation(**more):
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


def patient(**more):
    return {"resourceType": "Patient", **more}


def coding(code, system=SYSTEM):
    return {"coding": [{"system": system, "code": code}]}
