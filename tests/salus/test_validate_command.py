"""`salus validate`: each issue under its line, and an exit code that scripts can go by."""

import pytest
from typer.testing import CliRunner

from salus.cli import app
from tests.shared import shared

PROFILE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient"


def run(*arguments):
    return CliRunner().invoke(app, ["validate", *map(str, arguments)])


@pytest.fixture
def file(tmp_path):
    def made(text, name="patient.json"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return made


def test_an_issue_is_shown_under_its_line(file):
    path = file('{\n  "resourceType": "Patient",\n  "gender": "F"\n}')
    answer = run(path, "--errors")
    assert answer.exit_code == 1
    assert answer.output.splitlines() == [
        f"{path}: 1 error, 1 remark besides",
        '     3 |   "gender": "F"',
        "           ^",
        "       error Patient.gender: `Patient.gender` must be one of: female, male, other, unknown",
    ]


def test_a_valid_resource_ends_with_0_though_there_is_advice(file):
    answer = run(file('{"resourceType": "Patient", "active": true}'))
    assert answer.exit_code == 0
    assert "0 errors, 1 remark besides" in answer.output
    assert "warning Patient: " in answer.output


def test_a_package_brings_its_profiles(file):
    package = shared("packages/hl7.fhir.us.core-6.1.0.tgz")
    path = file('{"resourceType": "Patient",\n "gender": "female"}')
    assert run(path).exit_code == 0
    answer = run(path, "--package", package, "--profile", PROFILE)
    assert (answer.exit_code, answer.output.count("is required: add it")) == (1, 2)
    claiming = file(
        f'{{"resourceType": "Patient", "meta": {{"profile": ["{PROFILE}"]}}, "gender": "female"}}'
    )
    assert run(claiming, "--package", package).exit_code == 1


def test_a_profile_nobody_knows_is_a_problem(file):
    answer = run(file('{"resourceType": "Patient"}'), "--profile", PROFILE)
    assert answer.exit_code == 2


def test_what_is_no_json_is_shown_where_it_stops(file):
    answer = run(file('{\n  "resourceType": "Patient",\n  "active": tru\n}'))
    assert answer.exit_code == 1
    assert '     3 |   "active": tru' in answer.output


def test_a_file_that_is_not_there_and_one_that_is_no_package(file, tmp_path):
    assert run(tmp_path / "none.json").exit_code == 2
    path = file('{"resourceType": "Patient"}')
    assert run(path, "--package", path).exit_code == 2


def test_each_of_several_files_is_judged(file):
    right = file('{"resourceType": "Basic", "code": {"text": "x"}}', "a.json")
    wrong = file('{"resourceType": "Basic"}', "b.json")
    answer = run(right, wrong, "--errors")
    assert answer.exit_code == 1
    assert (f"{right}: 0 errors" in answer.output, f"{wrong}: 1 error" in answer.output) == (
        True,
        True,
    )
