"""The invented clinic is valid R4, the same each time, and refers only to what it holds."""

import json
from datetime import date

import pytest
from rich.console import Console

from conformance.json import encode
from salus.demo import clinic
from salus.demo.command import run
from salus.problem import Problem

TODAY = date(2026, 3, 1)


@pytest.fixture(scope="module")
def bundles():
    return [json.loads(encode(each)) for each in clinic(20, TODAY)]


def resources(bundles):
    return [entry["resource"] for bundle in bundles for entry in bundle["entry"]]


def of_type(bundles, type):
    return [each for each in resources(bundles) if each["resourceType"] == type]


def references(value):
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_the_same_seed_gives_the_same_clinic(bundles):
    assert [json.loads(encode(each)) for each in clinic(20, TODAY)] == bundles
    assert [json.loads(encode(each)) for each in clinic(20, TODAY, seed=1)] != bundles


def test_a_clinic_has_people_visits_vitals_and_prescriptions(bundles):
    assert len(bundles) == 21
    assert len(of_type(bundles, "Patient")) == 20
    assert len(of_type(bundles, "Practitioner")) == 4
    assert len(of_type(bundles, "Encounter")) == 60
    for type in ("Condition", "Observation", "MedicationRequest", "AllergyIntolerance"):
        assert len(of_type(bundles, type)) >= 5


def test_every_patient_has_a_name_and_number_of_their_own(bundles):
    patients = of_type(bundles, "Patient")

    assert len({each["identifier"][0]["value"] for each in patients}) == 20
    assert len({each["name"][0]["family"] for each in patients}) == 20


def test_every_reference_is_to_the_same_bundle_or_to_one_practitioner(bundles):
    numbers = {each["identifier"][0]["value"] for each in of_type(bundles, "Practitioner")}
    for bundle in bundles:
        own = {entry["fullUrl"] for entry in bundle["entry"]}
        for url in references(bundle):
            assert url in own or url.partition("|")[2] in numbers


def test_nothing_happens_in_the_future(bundles):
    assert all(each["period"]["end"] < "2026-03-01" for each in of_type(bundles, "Encounter"))


def test_every_resource_is_valid_by_the_models_of_others(bundles):
    models = pytest.importorskip("fhir.resources.R4B")
    for each in resources(bundles):
        models.get_fhir_model_class(each["resourceType"]).model_validate(each)


def test_every_resource_is_valid_by_our_validator(bundles):
    from conformance import definitions
    from conformance.validator import Validator

    validator = Validator(definitions.load())
    for bundle in clinic(20, TODAY):
        for entry in bundle["entry"]:
            assert [i for i in validator.validate(entry["resource"]) if i.severity == "error"] == []
        assert [i for i in validator.validate(bundle) if i.severity == "error"] == []


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1"])
def test_the_demo_whose_passwords_everybody_knows_serves_this_machine_only(
    host, tmp_path, monkeypatch
):
    monkeypatch.setenv("SALUS_BEHIND_PROXY", "1")
    monkeypatch.setenv("SALUS_BASE_URL", "https://clinic.example")
    options = {"host": host, "data": tmp_path / "data", "keys": tmp_path / "keys"}

    with pytest.raises(Problem, match="serves this machine only"):
        run(options, None, False, Console())
    assert not (tmp_path / "data").exists()
