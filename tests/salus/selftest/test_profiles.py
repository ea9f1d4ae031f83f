"""Scripts validate by the profiles of packages too."""

import pytest

from salus.problem import Problem
from salus.selftest.profiles import by_packages
from tests.shared import shared

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"
BASE = "http://hl7.org/fhir/StructureDefinition/Patient"
PATIENT = {
    "resourceType": "Patient",
    "identifier": [{"system": "urn:x", "value": "1"}],
    "name": [{"family": "Able"}],
    "gender": "female",
}


def test_a_profile_of_a_package_is_known_and_others_are_not():
    validate = by_packages([shared("packages/hl7.fhir.us.core-6.1.0.tgz")])
    assert validate(PATIENT, US_CORE) == []
    poor = {name: value for name, value in PATIENT.items() if name != "gender"}
    assert [each.severity for each in validate(poor, US_CORE)] == ["error"]
    assert validate(poor, BASE) == []
    assert validate(PATIENT, "http://example.org/nothing") is None
    assert by_packages([])(PATIENT, US_CORE) is None


def test_what_is_no_package_is_told(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"nothing")
    with pytest.raises(Problem, match=r"x\.tgz: This is no package"):
        by_packages([tmp_path / "x.tgz"])
