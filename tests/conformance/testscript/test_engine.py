"""How a script is run: its order, what stops it, what is tidied up, and what it may not do."""

import time

import pytest

from conformance.definitions import load
from conformance.testscript import Limits, html, junit, suite, totals
from conformance.testscript import test_report as report_of
from conformance.testscript.script import ScriptError
from conformance.validator import Validator
from conformance.xml import to_xml
from tests.conformance.testscript.played import (
    PATIENT,
    READ,
    Served,
    claim,
    operation,
    outcomes,
    play,
    script,
)

WRONG = claim(responseCode="500")
RIGHT = claim(responseCode="200")
DELETE = operation("delete", resource="Patient", params="/p1")
CAPABLE = {
    "resourceType": "CapabilityStatement",
    "format": ["application/fhir+json"],
    "rest": [
        {
            "mode": "server",
            "resource": [
                {
                    "type": "Patient",
                    "interaction": [{"code": "read"}],
                    "searchParam": [{"name": "name", "type": "string"}],
                    "conditionalCreate": True,
                }
            ],
        }
    ],
}


def test_a_test_stops_at_the_first_assertion_that_does_not_hold():
    served = Served()
    run = play(
        script(
            test=[
                {"name": "one", "action": [READ, RIGHT, WRONG, READ, RIGHT]},
                {"name": "two", "action": [READ, RIGHT]},
            ],
            teardown={"action": [DELETE]},
        ),
        served,
    )
    assert outcomes(run) == ["pass", "pass", "fail", "skip", "skip", "pass", "pass", "pass"]
    assert served.lines == ["GET /Patient/p1", "GET /Patient/p1", "DELETE /Patient/p1"]
    assert (run.outcome, [part.outcome for part in run.parts]) == ("fail", ["fail", "pass", "pass"])


def test_a_warning_stops_nothing_and_neither_does_what_may_fail():
    mild = claim(responseCode="500", warningOnly=True)
    late = claim(responseCode="500", stopTestOnFail=False)
    run = play(script(READ, mild, RIGHT))
    assert (run.outcome, outcomes(run)) == ("pass", ["pass", "warning", "pass"])
    run = play(script(READ, late, RIGHT))
    assert (run.outcome, outcomes(run)) == ("fail", ["pass", "fail", "pass"])


def test_where_the_setup_does_not_hold_nothing_is_tested_and_all_is_tidied_up():
    served = Served()
    run = play(
        script(READ, RIGHT, setup={"action": [READ, WRONG]}, teardown={"action": [DELETE]}), served
    )
    assert [(part.kind, part.outcome) for part in run.parts] == [
        ("setup", "fail"),
        ("test", "skip"),
        ("teardown", "pass"),
    ]
    assert served.lines == ["GET /Patient/p1", "DELETE /Patient/p1"]
    assert "the setup did not hold" in run.tests[0].reason
    assert (run.outcome, totals([run])) == ("fail", (0, 0, 1))


def test_fixtures_are_created_before_and_deleted_after():
    served = Served({**PATIENT, "id": "made"}, 201, location="http://x.example/fhir/Patient/made")
    fields = {
        "contained": [{**PATIENT, "id": "one", "name": [{"family": "${C4}"}]}],
        "fixture": [
            {"id": "one", "autocreate": True, "autodelete": True, "resource": {"reference": "#one"}}
        ],
        "variable": [{"name": "id", "sourceId": "one", "expression": "Patient.id"}],
    }
    run = play(
        script(
            operation(targetId="one"),
            operation("search", resource="Patient", params="?_id=${id}&family=${C4}"),
            **fields,
        ),
        served,
    )
    assert outcomes(run) == ["pass"] * 4
    family = served.asked[0].body.split(b'"family":"')[1][:4].decode()
    assert served.lines == [
        "POST /Patient",
        "GET /Patient/made",
        f"GET /Patient?_id=made&family={family}",
        "DELETE /Patient/made",
    ]


def test_a_fixture_with_an_id_is_put_there_where_the_server_lets_it(tmp_path):
    (tmp_path / "s.json").write_text(
        '{"resourceType":"TestScript","name":"s","fixture":[{"id":"f","autocreate":true,'
        '"resource":{"reference":"Patient/p1"}}],"test":[]}'
    )
    (tmp_path / "patient-p1.xml").write_bytes(to_xml(PATIENT))
    (written,) = suite(tmp_path)
    served = Served()
    assert play(written, served).outcome == "pass"
    strict = Served(PATIENT, 201)
    strict.answers["PUT /Patient/p1"] = (405, None, {})
    assert play(written, strict).outcome == "pass"
    assert (served.lines, strict.lines) == (
        ["PUT /Patient/p1"],
        ["PUT /Patient/p1", "POST /Patient"],
    )
    refusing = Served({}, 500)
    assert play(written, refusing).outcome == "error"


@pytest.mark.parametrize(
    ("needed", "told", "outcome"),
    [
        ({"required": True}, {}, "pass"),
        ({"validated": True}, {}, "pass"),
        ({"required": True}, {"interaction": [{"code": "patch"}]}, "skip"),
        ({"required": True, "validated": True}, {"interaction": [{"code": "patch"}]}, "fail"),
        ({"required": True}, {"searchParam": [{"name": "birthdate"}]}, "skip"),
        ({"required": True}, {"operation": [{"name": "everything"}]}, "skip"),
        ({"required": True}, {"conditionalUpdate": True}, "skip"),
        ({"required": True}, {"type": "Observation"}, "skip"),
        ({"required": False}, {"type": "Observation"}, "pass"),
    ],
)
def test_a_script_runs_only_where_the_server_claims_what_it_needs(needed, told, outcome):
    wanted = {**CAPABLE["rest"][0]["resource"][0], **told}
    statement = {
        "resourceType": "CapabilityStatement",
        "id": "needed",
        "format": ["json"],
        "rest": [{"mode": "server", "resource": [wanted]}],
    }
    served = Served()
    served.answers["GET /metadata"] = (200, CAPABLE, {})
    run = play(
        script(
            READ,
            RIGHT,
            contained=[statement],
            metadata={"capability": [{**needed, "capabilities": "#needed"}]},
        ),
        served,
    )
    assert run.outcome == outcome
    assert ("GET /Patient/p1" in served.lines) == (outcome == "pass")
    assert bool(run.note) == (outcome != "pass")


def test_variables_take_what_is_given_before_what_is_found_before_their_default():
    served = Served(etag='W/"3"')
    fields = {
        "variable": [
            {"name": "tag", "headerField": "ETag", "sourceId": "read"},
            {"name": "family", "path": "fhir:Patient/fhir:name/fhir:family/@value"},
            {"name": "gender", "expression": "Patient.gender", "defaultValue": "no${other}"},
            {"name": "other", "defaultValue": "body"},
            {"name": "outside", "hint": "[what you like]"},
        ]
    }
    kept = {"operation": {**READ["operation"], "responseId": "read"}}
    ask = operation("search", resource="Patient", params="?a=${tag}&b=${family}&c=${gender}&d=${outside}")  # fmt: skip
    run = play(script(kept, ask, **fields), served, given={"outside": "given"})
    assert outcomes(run) == ["pass", "pass"], run.parts[0].reason
    assert served.lines[1] == "GET /Patient?a=W/%223%22&b=Able&c=nobody&d=given"
    run = play(script(kept, ask, **fields), served)
    assert "The variable outside has no value ([what you like])" in run.parts[0].reason
    circle = {"variable": [{"name": "a", "defaultValue": "${a}"}]}
    run = play(script(operation(url="Patient/${a}"), **circle))
    assert "made of itself" in run.parts[0].reason


def test_placeholders_have_one_value_in_a_run_and_the_form_that_they_ask_for():
    served = Served()
    url = "Patient/${C4}-${D3}-${CD6}?u=${UUID}&d=${CURRENTDATE}"
    play(script(operation(url=url), operation(url=url)), served)
    first, second = served.lines
    assert first == second
    letters, digits, both = first.split("/")[2].split("?")[0].split("-")
    assert (letters.isalpha(), len(letters)) == (True, 4)
    assert (digits.isdecimal(), len(digits)) == (True, 3)
    assert (both.isalnum(), len(both)) == (True, 6)


def test_answers_have_a_largest_size_and_a_longest_time():
    run = play(script(READ), Served(b"x" * 2000), limits=Limits(bytes=1000))
    assert "more than 1000 bytes" in run.parts[0].reason

    class Slow(Served):
        def __call__(self, asked, ask):
            time.sleep(1)
            return super().__call__(asked, ask)

    run = play(script(READ), Slow(), limits=Limits(seconds=0.2))
    assert (run.outcome, "No answer from http://127.0.0.1" in run.parts[0].reason) == (
        "error",
        True,
    )
    run = play(script(READ, READ, READ), limits=Limits(actions=2))
    assert outcomes(run) == ["pass", "pass", "error"]


def test_a_script_that_is_malformed_ends_no_run():
    for action in (
        {},
        {"operation": {"type": "read"}},
        {"assert": {"response": []}},
        operation(params=7),
    ):
        assert play(script(READ, action)).outcome == "error", action


def test_several_servers_are_asked_by_their_numbers():
    one, two = Served(), Served()
    from tests.front import front

    with front("http://127.0.0.1:9/fhir", two) as other:
        written = script(
            {"operation": {**READ["operation"], "destination": 1}},
            {"operation": {**READ["operation"], "destination": 2}},
        )
        with front("http://127.0.0.1:9/fhir", one) as first:
            from conformance.testscript import Engine, Target

            (run,) = Engine(Target({1: first, 2: other})).run_all([written])
    assert outcomes(run) == ["pass", "pass"]
    assert (one.lines, two.lines) == (["GET /Patient/p1"], ["GET /Patient/p1"])


def test_fixtures_are_found_near_the_script_and_nowhere_else(tmp_path):
    (tmp_path / "suite").mkdir()
    (tmp_path / "secret.json").write_text('{"resourceType":"Patient","id":"secret"}')
    (tmp_path / "suite" / "s.json").write_text(
        '{"resourceType":"TestScript","fixture":[{"id":"f","resource":{"reference":"../secret.json"}}],'
        '"test":[{"action":[{"operation":{"type":{"code":"create"},"sourceId":"f"}}]}]}'
    )
    served = Served()
    (written,) = suite(tmp_path / "suite")
    assert (
        "neither contained in the script nor a file near it"
        in play(written, served).tests[0].reason
    )
    assert served.lines == []
    for path, why in (("secret.json", "no TestScript"), ("nothing", "no file or folder")):
        with pytest.raises(ScriptError, match=why):
            suite(tmp_path / path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScriptError, match="There is no TestScript"):
        suite(tmp_path / "empty")


def test_what_cannot_be_read_in_a_folder_fails_and_is_named(tmp_path):
    good = '{"resourceType":"TestScript","name":"good","test":[{"name":"one","action":[]}]}'
    (tmp_path / "fixtures").mkdir()
    for name, text in (
        ("good.json", good),
        ("fixtures/patient.json", '{"resourceType":"Patient"}'),
        ("package.json", '{"name":"no resource"}'),
        ("notes.txt", "no file of a suite"),
        ("bad.json", '{"resourceType":"TestScript",'),
        ("bad.xml", '<TestScript xmlns="http://hl7.org/fhir"><name'),
        ("misspelt.json", good.replace("TestScript", "TestScirpt")),
    ):
        (tmp_path / name).write_text(text)
    served = Served()
    runs = {each.name: play(each, served) for each in suite(tmp_path)}
    assert {name: run.outcome for name, run in runs.items()} == {
        "good": "pass",
        "bad.json": "error",
        "bad.xml": "error",
        "misspelt.json": "error",
    }
    assert totals(list(runs.values())) == (1, 3, 0)
    assert served.lines == []
    assert "This is not JSON" in runs["bad.json"].tests[0].reason
    assert "TestScirpt is no resource type of R4" in runs["misspelt.json"].tests[0].reason
    assert not Validator(load()).validate(report_of(runs["bad.xml"]), warnings=False)


def test_a_server_that_does_not_tell_what_it_claims_fails_and_is_not_skipped():
    need = [{"required": True, "validated": False, "capabilities": "#cap"}]
    capable = {"resourceType": "CapabilityStatement", "id": "cap"}
    run = play(
        script(READ, metadata={"capability": need}, contained=[capable]), Served(PATIENT, 401)
    )
    assert run.outcome == "fail"
    assert run.tests[0].reason.endswith("/fhir/metadata answers 401")


def test_a_script_without_tests_is_skipped_and_says_why():
    run = play(script(test=[]))
    assert (run.outcome, run.note) == ("skip", "it has no test")


def test_reports_say_what_came_of_it():
    run = play(
        script(
            test=[
                {"name": "A <b> & c", "description": "d", "action": [READ, WRONG, READ]},
                {"name": "two", "action": [READ, claim(responseCode="500", warningOnly=True)]},
            ],
            teardown={"action": [DELETE]},
        )
    )
    report = report_of(run)
    assert not Validator(load()).validate(report, warnings=False)
    assert (report["status"], report["result"], report["score"]) == ("completed", "fail", 50)
    first, second = report["test"]
    assert [next(iter(a.values()))["result"] for a in first["action"]] == ["pass", "fail", "skip"]
    assert [next(iter(a.values()))["result"] for a in second["action"]] == ["pass", "warning"]
    assert first["action"][0]["operation"]["detail"].endswith("/fhir/Patient/p1")
    assert len(report["teardown"]["action"]) == 1

    from xml.etree import ElementTree

    (found,) = ElementTree.fromstring(junit([run]))
    assert (found.get("tests"), found.get("failures")) == ("2", "1")
    failed, passed = found
    assert (failed.get("name"), failed[0].tag, list(passed)) == ("A <b> & c", "failure", [])
    assert "The status is 200; expected: equals 500" in failed[0].get("message")

    page = html([run], "A <title>")
    assert "A &lt;title&gt;" in page and "A &lt;b&gt; &amp; c" in page
    assert page.count('class="cell fail" href="#p0-0"') == 1
    assert page.count('class="cell warning" href="#p0-1"') == 1
    assert "<script" not in page and "http://x" not in page


def test_a_skipped_script_has_a_report_that_is_valid():
    statement = {"resourceType": "CapabilityStatement", "id": "n", "format": ["ttl"]}
    run = play(
        script(
            READ,
            contained=[statement],
            metadata={"capability": [{"required": True, "capabilities": "#n"}]},
        ),
        Served(CAPABLE),
    )
    report = report_of(run)
    assert (run.outcome, report["result"]) == ("skip", "pending")
    assert not Validator(load()).validate(report, warnings=False)
    assert "<skipped" in junit([run])
