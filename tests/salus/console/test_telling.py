"""Who did what is told as it was, and times of other systems never break a page."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from salus import happenings
from salus.console.telling import Names, Viewer, told
from salus.operator.clients import OPERATOR
from smart_auth.authority import Happening

HERE = "2026-11-22T10:00:00Z"


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Pacific/Auckland"])
@pytest.mark.parametrize(
    ("recorded", "shown"),
    [
        ("2026-11-22T09:30:00+01:00", datetime(2026, 11, 22, 8, 30, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999-12:00", None),
        ("2026-11-22T23:59:60Z", None),
        ("0001-01-01T00:00:00+14:00", None),
    ],
)
def test_a_time_that_no_calendar_has_is_replaced_by_that_of_its_recording(zone, recorded, shown):
    event = {
        "resourceType": "AuditEvent",
        "id": "7",
        "meta": {"lastUpdated": HERE},
        "type": {"code": "x"},
        "recorded": recorded,
        "agent": [{"requestor": True, "who": {"reference": "Practitioner/dr"}}],
        "entity": [{"what": {"reference": "Patient/bob"}}],
    }
    at = told(event, Names({}, {}), Viewer(None, {}, ZoneInfo(zone), all=True)).at

    assert at == (shown or datetime.fromisoformat(HERE))
    assert at.tzinfo == ZoneInfo(zone)


SUBTYPE = "http://hl7.org/fhir/restful-interaction"
NAMES = Names({"Patient/ann": "Ann Able", "Practitioner/may": "Dr. May"}, {"chart": "Chart"})
ANN = Viewer("Patient/ann", {"ann": ""}, UTC, "ann")
ROOT = Viewer(None, {}, UTC, "root", all=True)


def of_operator(what, **more):
    """An event as the operator's commands leave it."""
    named = {"patient": "ann", "client": OPERATOR, "account": OPERATOR, **more}
    return parsed(Happening(what, **named))


def parsed(happening):
    made = happenings.event(happening, "salus.test", 1_795_000_000_000_000)
    return json.loads(made.head + b"7" + made.tail)


def purge(**more):
    """An event of `$purge` by the operator."""
    return {
        "resourceType": "AuditEvent",
        "id": "7",
        "meta": {"lastUpdated": HERE},
        "type": {"code": "rest"},
        "subtype": [{"system": SUBTYPE, "code": "operation", "display": "$purge"}],
        "recorded": HERE,
        "outcome": "0",
        "agent": [{"requestor": True, "who": {"display": OPERATOR}}],
        "entity": [{"what": {"reference": "Patient/ann"}}],
        **more,
    }


@pytest.mark.parametrize(
    ("event", "to_ann", "to_root"),
    [
        (
            of_operator("hold"),
            "The people who run this server put a legal hold on your record",
            "The operator put a legal hold on Ann Able’s record",
        ),
        (
            of_operator("hold-released"),
            "The people who run this server ended the legal hold on your record",
            "The operator ended the legal hold on Ann Able’s record",
        ),
        (
            purge(),
            "The people who run this server erased your record",
            "The operator erased Ann Able’s record",
        ),
        (
            purge(outcomeDesc="dry run"),
            "The people who run this server looked at what an erasure of your record would remove "
            "(nothing was removed)",
            "The operator looked at what an erasure of Ann Able’s record would remove "
            "(nothing was removed)",
        ),
        (
            purge(outcome="4", outcomeDesc="conflict: held"),
            "The people who run this server tried to erase your record",
            "The operator tried to erase Ann Able’s record",
        ),
        (
            of_operator("account", account="ann", who="Patient/ann", detail="created by X"),
            "Your account was made by the people who run this server",
            "The account of Ann Able was made by the operator",
        ),
        *(
            (of_operator(what, patient=None), None, f"The operator {said}")
            for what, said in {
                "backup": "made a backup of all data",
                "restore": "brought all data back from a backup",
                "keys": "changed the keys of this server",
                "expire": "ended what the audit held of a month whose time was over",
            }.items()
        ),
    ],
)
def test_what_the_operator_does_is_told_as_what_it_is_and_by_no_app(event, to_ann, to_root):
    for viewer, said in ((ANN, to_ann), (ROOT, to_root)):
        if said is not None:
            words = told(event, NAMES, viewer)
            assert (words.sentence, words.app) == (said, "")


@pytest.mark.parametrize(
    ("detail", "to_ann", "to_root"),
    [
        ("created by root", "was made by somebody of the staff", "was made by root"),
        ("password", "got a new password", "got a new password"),
        ("password by link", "got a new password, by a link", "got a new password, by a link"),
        (
            "link for another password by root",
            "was given a link for a new password by somebody of the staff",
            "was given a link for a new password by root",
        ),
        ("second factor off", *["lost its second factor for signing in"] * 2),
        ("something later", "was changed", "was changed"),
    ],
)
def test_what_befell_an_account_is_told_and_by_whom(detail, to_ann, to_root):
    event = parsed(Happening("account", account="ann", who="Patient/ann", detail=detail))
    assert told(event, NAMES, ANN).sentence == f"Your account {to_ann}"
    assert told(event, NAMES, ROOT).sentence == f"The account of Ann Able {to_root}"
    assert told(event, NAMES, ROOT).whom == ""


def test_whose_account_it_is_without_a_name_is_told_within_a_sentence():
    event = parsed(Happening("account", account="zed", who="Patient/zed", detail="password"))
    said = told(event, NAMES, ROOT).sentence
    assert said == "The account of Patient/zed (no name known) got a new password"
    assert told(event, NAMES, ANN).sentence == "The account of another patient got a new password"


def test_an_app_that_is_called_like_the_operator_is_an_app():
    event = parsed(Happening("token", client=OPERATOR, patient="ann"))
    names = Names({}, {OPERATOR: "Operating"})
    assert told(event, names, ANN).sentence == "The app Operating let an app go to your record"


def test_another_system_cannot_speak_as_the_operator():
    event = purge(meta={"lastUpdated": HERE, "tag": [{"code": "reported"}]})
    assert (
        told(event, NAMES, ANN).sentence == "Somebody, as another system says, erased your record"
    )


def test_an_alarm_of_the_log_is_no_deed_of_anybody():
    event = parsed(Happening("log-alarm", False, detail="a fork"))
    words = told(event, NAMES, ROOT)
    assert (words.sentence, words.end) == ("The log of this server raised an alarm", "")
