"""Snapshots made of differentials: by rule, and compared with all that the guides publish."""

import pytest

from conformance.packages import Packages, read
from conformance.snapshot import SnapshotError, with_snapshot
from tests.shared import shared

BASE = "http://hl7.org/fhir/StructureDefinition/"
CORE = Packages()


def find(canonical):
    return CORE.find("StructureDefinition", canonical)


def made(type, *elements, base=None, resolve=find):
    structure = {
        "resourceType": "StructureDefinition",
        "url": "http://example.org/profile",
        "type": type,
        "baseDefinition": base or BASE + type,
        "differential": {"element": [{"path": e["id"], **e} for e in elements]},
    }
    done = with_snapshot(structure, resolve)
    return {each["id"]: each for each in done["snapshot"]["element"]}


def test_a_profile_without_constraints_has_the_elements_of_its_base():
    patient = find(BASE + "Patient")
    elements = made("Patient")
    assert list(elements) == [each["id"] for each in patient["snapshot"]["element"]]
    assert elements["Patient.name"]["base"] == {"path": "Patient.name", "min": 0, "max": "*"}
    assert elements["Patient.contact.name"]["path"] == "Patient.contact.name"


def test_cardinalities_constraints_and_bindings_are_merged_into_their_elements():
    elements = made(
        "Patient",
        {
            "id": "Patient.maritalStatus",
            "min": 1,
            "constraint": [{"key": "x-1", "severity": "error", "human": "x", "expression": "true"}],
            "binding": {"strength": "required", "valueSet": "http://example.org/vs"},
            "definition": "...and more",
        },
    )
    element = elements["Patient.maritalStatus"]
    assert (element["min"], element["max"]) == (1, "1")
    assert element["base"] == {"path": "Patient.maritalStatus", "min": 0, "max": "1"}
    assert [each["key"] for each in element["constraint"]] == ["ele-1", "x-1"]
    assert element["binding"]["valueSet"] == "http://example.org/vs"
    assert element["binding"]["strength"] == "required"
    assert element["definition"].endswith("civil) status.\r\nand more")


def test_a_differential_that_goes_deeper_unfolds_data_types():
    elements = made("Patient", {"id": "Patient.maritalStatus.coding.system", "min": 1})
    below = [each for each in elements if each.startswith("Patient.maritalStatus")]
    assert below == [
        "Patient.maritalStatus",
        *(f"Patient.maritalStatus.{each}" for each in ("id", "extension", "coding")),
        *(
            f"Patient.maritalStatus.coding.{each}"
            for each in "id extension system version code display userSelected".split()
        ),
        "Patient.maritalStatus.text",
    ]
    assert elements["Patient.maritalStatus.coding.system"]["min"] == 1
    assert elements["Patient.maritalStatus.coding.system"]["base"]["path"] == "Coding.system"


def test_slices_hang_beside_the_element_that_they_slice():
    slicing = {"discriminator": [{"type": "pattern", "path": "code"}], "rules": "open"}
    elements = made(
        "Observation",
        {"id": "Observation.component", "slicing": slicing, "min": 2},
        {"id": "Observation.component:systolic", "sliceName": "systolic", "max": "1"},
        {"id": "Observation.component:systolic.valueQuantity.code", "min": 1},
        {"id": "Observation.component:diastolic", "sliceName": "diastolic", "min": 1},
    )
    systolic = elements["Observation.component:systolic"]
    assert (systolic["min"], systolic["max"], systolic["path"]) == (0, "1", "Observation.component")
    assert systolic["sliceName"] == "systolic"
    assert "slicing" not in systolic
    # A slice of a backbone element has one type of value, which therefore needs no slice.
    assert elements["Observation.component:systolic.value[x].code"]["min"] == 1
    assert elements["Observation.component:systolic.value[x]"]["type"] == [{"code": "Quantity"}]
    names = list(elements)
    assert names.index("Observation.component:systolic") > names.index(
        "Observation.component.referenceRange"
    )
    assert names.index("Observation.component:diastolic") > names.index(
        "Observation.component:systolic.referenceRange"
    )


def test_a_type_of_a_choice_is_a_slice_of_it():
    open = made("Observation", {"id": "Observation.valueQuantity", "mustSupport": True})
    assert open["Observation.value[x]"]["slicing"] == {
        "discriminator": [{"type": "type", "path": "$this"}],
        "ordered": False,
        "rules": "open",
    }
    assert open["Observation.value[x]:valueQuantity"]["type"] == [{"code": "Quantity"}]
    assert open["Observation.value[x]:valueQuantity"]["mustSupport"]
    named = made("Observation", {"id": "Observation.value[x]:valueQuantity"})
    assert named["Observation.value[x]:valueQuantity"]["type"] == [{"code": "Quantity"}]
    closed = made("Observation", {"id": "Observation.valueQuantity", "min": 1})
    assert closed["Observation.value[x]"]["slicing"]["rules"] == "closed"
    assert closed["Observation.value[x]"]["type"] == [{"code": "Quantity"}]
    assert closed["Observation.value[x]"]["min"] == 1


def test_an_extension_is_a_slice_with_what_its_definition_says():
    url = BASE + "patient-birthPlace"
    elements = made(
        "Patient",
        {
            "id": "Patient.extension:birthPlace",
            "sliceName": "birthPlace",
            "type": [{"code": "Extension", "profile": [url]}],
        },
        {"id": "Patient.extension:birthPlace.value[x].city", "min": 1},
    )
    assert elements["Patient.extension"]["slicing"]["discriminator"] == [
        {"type": "value", "path": "url"}
    ]
    slice = elements["Patient.extension:birthPlace"]
    assert (slice["min"], slice["max"]) == (0, "1")
    assert elements["Patient.extension:birthPlace.url"]["fixedUri"] == url
    assert elements["Patient.extension:birthPlace.value[x].city"]["min"] == 1


def test_a_content_reference_is_followed_where_the_differential_goes_below_it():
    elements = made("Observation", {"id": "Observation.component.referenceRange.low", "min": 1})
    element = elements["Observation.component.referenceRange"]
    assert "contentReference" not in element
    assert element["type"] == [{"code": "BackboneElement"}]
    assert elements["Observation.component.referenceRange.low"]["min"] == 1
    plain = made("Observation")["Observation.component.referenceRange"]
    assert plain["contentReference"] == f"{BASE}Observation#Observation.referenceRange"


def test_a_base_that_has_no_snapshot_gets_one():
    first = {
        "type": "Patient",
        "baseDefinition": BASE + "Patient",
        "differential": {"element": [{"id": "Patient.name", "path": "Patient.name", "min": 1}]},
    }

    def resolve(canonical):
        return first if canonical == "http://example.org/first" else find(canonical)

    elements = made("Patient", base="http://example.org/first", resolve=resolve)
    assert elements["Patient.name"]["min"] == 1


@pytest.mark.parametrize(
    ("base", "id", "text"),
    [
        ("http://example.org/none", "Patient", "http://example.org/none is not known"),
        (None, "Patient.nothing", "There is no element nothing below Patient"),
        (None, "Patient.deceasedQuantity", "There is no element deceasedQuantity below Patient"),
        (
            "http://example.org/itself",
            "Patient",
            "http://example.org/itself is derived from itself",
        ),
    ],
)
def test_what_cannot_be_made_is_said(base, id, text):
    itself = {
        "url": "http://example.org/itself",
        "type": "Patient",
        "baseDefinition": "http://example.org/itself",
    }

    def resolve(canonical):
        return itself if canonical == itself["url"] else find(canonical)

    with pytest.raises(SnapshotError) as refused:
        made("Patient", {"id": id}, base=base, resolve=resolve)
    assert str(refused.value) == text


# What the published snapshots have otherwise, and why.
OLD_TOOL = "made by a publisher of 2020, which narrowed a choice where only a slice of it is named"
AGENTS = "its publisher left out of the slices of agent what the profile says of all agents"
DEPENDS = "its base is in a package that it depends on"
LOGICAL = "a logical model, which has elements of its own"
DIFFERENT = {
    ("hl7.fhir.us.core#3.1.1", "pediatric-weight-for-height"): OLD_TOOL,
    ("hl7.fhir.us.core#3.1.1", "pediatric-bmi-for-age"): OLD_TOOL,
    ("hl7.fhir.us.core#3.1.1", "head-occipital-frontal-circumference-percentile"): OLD_TOOL,
    ("hl7.fhir.us.core#3.1.1", "us-core-goal"): OLD_TOOL,
    ("hl7.fhir.us.core#3.1.1", "us-core-race"): "elements below extensions that are forbidden",
    ("hl7.fhir.us.core#3.1.1", "us-core-ethnicity"): "the same",
    ("hl7.fhir.us.core#3.1.1", "us-core-patient"): "its binding on an extension was left out",
    ("hl7.fhir.us.core#3.1.1", "us-core-provenance"): AGENTS,
    ("hl7.fhir.us.core#6.1.0", "us-core-provenance"): AGENTS,
    ("hl7.fhir.us.core#7.0.0", "us-core-provenance"): AGENTS,
    ("hl7.fhir.us.core#6.1.0", "us-core-questionnaireresponse"): DEPENDS,
    ("hl7.fhir.us.core#7.0.0", "us-core-questionnaireresponse"): DEPENDS,
    ("hl7.fhir.uv.ips#2.0.0", "Document"): LOGICAL,
    ("hl7.fhir.uv.ips#2.0.0", "DocumentSection"): LOGICAL,
    ("hl7.fhir.uv.ips#2.0.0", "IPSSectionsLM"): LOGICAL,
}
FILES = ("us.core-3.1.1", "us.core-6.1.0", "us.core-7.0.0", "uv.ips-2.0.0")


def test_the_snapshots_of_us_core_and_ips_are_made_of_their_differentials():
    different, equal = set(), 0
    for file in FILES:
        package = read(shared(f"packages/hl7.fhir.{file}.tgz").read_bytes(), level=1)
        packages = Packages([package])

        def resolve(canonical, packages=packages):
            return packages.find("StructureDefinition", canonical)

        for listed in package.by_type["StructureDefinition"]:
            published = package.resource(listed)
            bare = {name: value for name, value in published.items() if name != "snapshot"}
            try:
                made = with_snapshot(bare, resolve)
            except SnapshotError:
                different.add((package.label, listed.id))
                continue
            if _meaning(made) == _meaning(published):
                equal += 1
            else:
                different.add((package.label, listed.id))
    assert different == set(DIFFERENT)
    assert equal == 184 - len(DIFFERENT)


def _meaning(structure):
    """Of each element in order: what decides whether a resource is valid."""
    return [
        {
            "id": e["id"],
            "path": e["path"],
            "cardinality": (e["min"], e["max"]),
            "base": e.get("base"),
            "types": sorted(map(_type, e.get("type", ()))),
            "fixed": {n: v for n, v in e.items() if n.startswith(("fixed", "pattern"))},
            "binding": _binding(e.get("binding")),
            "slicing": _slicing(e.get("slicing")),
            "slice": e.get("sliceName"),
            "constraints": sorted(each["key"] for each in e.get("constraint", ())),
            "reference": e.get("contentReference", "").partition("#")[2],
        }
        for e in structure["snapshot"]["element"]
    ]


def _unpinned(canonical):
    """IPS names the version of R4 in its snapshots."""
    return canonical.removesuffix("|4.0.1")


def _type(type):
    targets = [*map(_unpinned, type.get("targetProfile", ()))]
    return type["code"], [*map(_unpinned, type.get("profile", ()))], targets


def _binding(binding):
    return binding and (binding["strength"], _unpinned(binding.get("valueSet", "")))


def _slicing(slicing):
    if slicing is None:
        return None
    paths = [(each["type"], each["path"]) for each in slicing.get("discriminator", ())]
    return paths, slicing["rules"], slicing.get("ordered", False)
