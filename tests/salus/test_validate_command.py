"""`salus validate`: each issue under its line, and an exit code that scripts can go by."""

import gzip

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


def test_a_binding_that_cannot_be_told_names_what_is_missing(file):
    package = shared("packages/hl7.fhir.us.core-6.1.0.tgz")
    race = PROFILE.replace("patient", "race")
    coded = '{"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3"}'
    parts = (
        f'[{{"url": "ombCategory", "valueCoding": {coded}}}, {{"url": "text", "valueString": "a"}}]'
    )
    path = file(
        f'{{"resourceType": "Patient", "extension": [{{"url": "{race}", "extension": {parts}}}]}}'
    )
    answer = run(path, "--package", package)
    assert (
        "omb-race-category|6.1.0, which needs"
        " http://cts.nlm.nih.gov/fhir/ValueSet/2.16.840.1.114222.4.11.836 and"
        " http://cts.nlm.nih.gov/fhir/ValueSet/2.16.840.1.113762.1.4.1021.102: no package here has"
        " all of that"
    ) in answer.output


def test_a_profile_nobody_knows_is_a_problem(file):
    path = file('{"resourceType": "Patient"}')
    answer = run(path, "--profile", PROFILE)
    assert answer.exit_code == 2
    assert f"No profile {PROFILE} is known: name its package with --package" in unwrapped(answer)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (PROFILE.replace("patient", "pateint"), PROFILE),
        ("us-core-patient", PROFILE),
        (f"{PROFILE}|9.9.9", f"{PROFILE}|6.1.0"),
    ],
)
def test_a_profile_that_no_package_has_is_told_with_the_one_that_is_meant(file, asked, meant):
    package = shared("packages/hl7.fhir.us.core-6.1.0.tgz")
    answer = run(file('{"resourceType": "Patient"}'), "--package", package, "--profile", asked)
    assert answer.exit_code == 2
    said = f"The packages that are named have no profile {asked}; did you mean {meant}"
    assert said in unwrapped(answer)


def unwrapped(answer):
    return answer.stderr.replace("\n", " ")


def test_standard_input_and_directories_are_read(file, tmp_path):
    answer = CliRunner().invoke(app, ["validate", "-"], input='{"resourceType": "Nothing"}')
    assert (answer.exit_code, "-: 1 error" in answer.output) == (1, True)
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    file('{"resourceType": "Patient"}', "folder/one.json")
    file('{"resourceType": "Nothing"}', "folder/inner/two.ndjson")
    file("neither", "folder/notes.txt")
    answer = run(folder)
    assert answer.exit_code == 1
    assert f"{folder}/one.json: 0 errors" in answer.output
    assert f"{folder}/inner/two.ndjson: 1 error" in answer.output
    assert "notes.txt" not in answer.output
    (tmp_path / "bare").mkdir()
    assert run(tmp_path / "bare").exit_code == 2


def test_a_file_that_is_no_text_cannot_be_read(tmp_path):
    path = tmp_path / "archive.tgz"
    path.write_bytes(gzip.compress(b"x"))
    answer = run(path)
    assert answer.exit_code == 2
    assert "is no text in UTF-8" in unwrapped(answer)


def test_what_is_no_json_is_shown_where_it_stops(file):
    answer = run(file('{\n  "resourceType": "Patient",\n  "active": tru\n}'))
    assert answer.exit_code == 1
    assert '     3 |   "active": tru' in answer.output


def test_a_file_that_is_not_there_and_one_that_is_no_package(file, tmp_path):
    assert run(tmp_path / "none.json").exit_code == 2
    path = file('{"resourceType": "Patient"}')
    assert run(path, "--package", path).exit_code == 2


def test_what_no_type_has_is_shown_where_it_stands(file):
    answer = run(file('{\n  "resourceType": "Patient",\n  "foo": 1\n}'), "--errors")
    assert '     3 |   "foo": 1' in answer.output
    assert "`Patient` has no element `foo`" in answer.output


def test_more_than_a_hundred_errors_are_all_told(file):
    lines = ",\n".join('{"use": "x"}' for _ in range(150))
    answer = run(file(f'{{"resourceType": "Patient", "name": [\n{lines}\n]}}'), "--errors")
    assert answer.output.startswith(f"{file('').with_name('patient.json')}: 150 errors, ")
    assert answer.output.count("error Patient.name[") == 150


def test_a_headline_says_when_not_all_is_told():
    from conformance.definitions import load
    from conformance.profiles import Profiles
    from salus.judging import judge
    from tests.conformance.listed_codes import ListedCodes

    known = Profiles(load(), load(), ListedCodes(load()))
    names = ", ".join('{"use": "x"}' for _ in range(150))
    judged = judge(known, f'{{"resourceType": "Patient", "name": [{names}]}}'.encode())
    assert judged.counted == "at least 100 errors, 0 remarks besides"
    assert judged.more == "Only the first 100 problems are told: correct them and validate again"


RIGHT = '{"resourceType": "Basic", "code": {"text": "x"}, "text": {"status": "empty"}}'


@pytest.mark.parametrize("packed", [False, True])
def test_lines_of_resources_are_judged_one_by_one(file, packed):
    path = file(f'{RIGHT}\n\n{{"resourceType": "Basic"}}\n{{"resourceType": tru\n', "all.ndjson")
    if packed:
        data = gzip.compress(path.read_bytes())
        path = path.with_name("all.ndjson.gz")
        path.write_bytes(data)
    answer = run(path, "--errors")
    assert answer.exit_code == 1
    assert answer.output.startswith(f"{path}: 3 resources, 3 errors, ")
    assert '     3 | {"resourceType": "Basic"}' in answer.output
    assert '     4 | {"resourceType": tru' in answer.output


def test_a_code_that_its_system_does_not_have_is_told_with_the_system(file):
    system = "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus"
    coding = f'{{"system": "{system}", "code": "nope"}}'
    answer = run(
        file(f'{{"resourceType": "Patient", "maritalStatus": {{"coding": [{coding}]}}}}'),
        "--errors",
    )
    assert f"{system}|2018-08-12 does not have this code: use one that it has" in answer.output
    assert "nope" not in answer.output.partition("error Patient")[2]


def test_what_is_not_there_is_said_to_be_not_there(file, tmp_path):
    path = file('{"resourceType": "Patient"}')
    for arguments in ((tmp_path / "no.json",), (path, "--package", tmp_path / "no.tgz")):
        answer = run(*arguments)
        assert answer.exit_code == 2
        assert f"There is no {arguments[-1]}" in answer.stderr


def test_each_of_several_files_is_judged(file):
    right = file('{"resourceType": "Basic", "code": {"text": "x"}}', "a.json")
    wrong = file('{"resourceType": "Basic"}', "b.json")
    answer = run(right, wrong, "--errors")
    assert answer.exit_code == 1
    assert (f"{right}: 0 errors" in answer.output, f"{wrong}: 1 error" in answer.output) == (
        True,
        True,
    )
