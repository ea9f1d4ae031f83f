"""What a caller who is limited to one patient writes, and what no form of writing gets it.

Section 11.1 of the negative tests, 15 and 16. https://hl7.org/fhir/R4/http.html#trules
"""

import pytest

from tests.security import people
from tests.security.clinic import EVERYBODY, Clinic, grant, opened
from tests.security.people import CATEGORY, LAB, VITAL, binary, observation, provenance, reference

OF_A = grant("patient/*.cruds", patient="a")
LABS = grant(f"patient/Observation.cruds?category={CATEGORY}|{LAB}", patient="a")
FAMILY = grant("user/*.cruds", reach=frozenset("ab"), agent="RelatedPerson/r")
SYSTEM = grant("system/*.cruds")


@pytest.fixture
def clinic(runner, tmp_path):
    """The two patients, for one test to change."""
    store = runner.run(opened(tmp_path / "data"))
    made = Clinic(store, runner)
    made.put(*people.ALL)
    yield made
    runner.run(store.close())


def _bundle(type, *entries):
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}


def _entry(method, url, resource=None, **more):
    entry = {"request": {"method": method, "url": url, **more}}
    return entry if resource is None else {**entry, "resource": resource}


def _versions(clinic, name):
    return len(clinic.names(EVERYBODY, f"{name}/_history"))


# --- 16: writes ----------------------------------------------------------------------------------


@pytest.mark.requirement("16", "E6")
@pytest.mark.parametrize(
    "made",
    [
        observation("Observation/x", "Patient/b"),
        observation("Observation/x", "Patient/a", performer=[reference("Patient/b")]),
        observation("Observation/x", "Group/study"),
        people.resource("Observation/x", status="final", code={"text": "x"}),
        people.condition("Condition/x", "Patient/a", asserter=reference("Patient/b")),
        people.task("Task/x", "Patient/b"),
        people.resource("Device/x", patient=reference("Patient/b")),
        people.resource("Device/x"),
        people.resource(
            "List/x",
            status="current",
            mode="working",
            subject=reference("Patient/a"),
            source=reference("Patient/b"),
        ),
        people.resource("Patient/x", name=[{"family": "New"}]),
        people.resource("Practitioner/x"),
        people.resource("Organization/x", name="Mine"),
        people.resource("Group/x", type="person", actual=True),
        people.resource("Bundle/x", type="collection"),
        provenance("Provenance/x", "Observation/lab-b"),
        provenance("Provenance/x", "Observation/lab-a", "Observation/lab-b"),
        provenance("Provenance/x", "Observation/never"),
        provenance(
            "Provenance/x",
            "Observation/lab-a",
            entity=[{"role": "source", "what": reference("Condition/flu-b")}],
        ),
        binary("Binary/x", "Patient/b"),
        binary("Binary/x", "Observation/lab-b"),
        binary("Binary/x", None),
    ],
    ids=lambda made: f"{made['resourceType']}",
)
def test_nothing_is_made_that_is_not_ones_own_wholly(clinic, made):
    type = made["resourceType"]
    before = clinic.ask(EVERYBODY, "GET", f"{type}?_summary=count").json["total"]
    answer = clinic.ask(OF_A, "POST", type, made)
    assert (answer.status, answer.code) == (403, "forbidden")
    for kind in ("batch", "transaction"):
        answer = clinic.ask(OF_A, "POST", "", _bundle(kind, _entry("POST", type, made)))
        told = answer.json.get("entry", [{"response": {"status": str(answer.status)}}])
        assert told[0]["response"]["status"].startswith("403")
    assert clinic.ask(EVERYBODY, "GET", f"{type}?_summary=count").json["total"] == before


@pytest.mark.requirement("16", "E6")
@pytest.mark.parametrize(
    "made",
    [
        observation("Observation/x", "Patient/a"),
        people.condition("Condition/x", "Patient/a", asserter=reference("Practitioner/doc")),
        people.task("Task/x", "Patient/a"),
        people.resource("Device/x", patient=reference("Patient/a")),
        provenance("Provenance/x", "Observation/lab-a"),
        binary("Binary/x", "Patient/a"),
        binary("Binary/x", "Observation/lab-a"),
    ],
    ids=lambda made: made["resourceType"],
)
def test_what_is_ones_own_is_made_and_seen(clinic, made):
    answer = clinic.ask(OF_A, "POST", made["resourceType"], made)
    assert answer.status == 201
    name = "/".join(answer.header("location").split("/")[-4:-2])
    assert clinic.ask(OF_A, "GET", name).status == 200
    assert clinic.ask(OF_A, "DELETE", name).status == 204
    assert clinic.ask(OF_A, "GET", name).status == 410


@pytest.mark.requirement("16")
@pytest.mark.parametrize("how", ["PUT", "PATCH", "conditional", "batch", "transaction"])
@pytest.mark.parametrize(
    ("caller", "element", "value"),
    [
        (OF_A, "subject", reference("Patient/b")),
        (OF_A, "performer", [reference("Patient/b")]),
        (LABS, "category", [{"coding": [{"system": CATEGORY, "code": VITAL}]}]),
    ],
)
def test_a_resource_is_not_moved_out_of_what_is_granted(clinic, how, caller, element, value):
    moved = {**observation("Observation/lab-a", "Patient/a"), element: value}
    patch = [{"op": "add", "path": f"/{element}", "value": value}]
    put = _entry("PUT", "Observation/lab-a", moved)
    answer = {
        "PUT": lambda: clinic.ask(caller, "PUT", "Observation/lab-a", moved),
        "PATCH": lambda: clinic.ask(caller, "PATCH", "Observation/lab-a", patch),
        "conditional": lambda: clinic.ask(caller, "PUT", "Observation?_id=lab-a", moved),
        "batch": lambda: clinic.ask(caller, "POST", "", _bundle("batch", put)),
        "transaction": lambda: clinic.ask(caller, "POST", "", _bundle("transaction", put)),
    }[how]()
    told = answer.json.get("entry", [{"response": {"status": str(answer.status)}}])
    assert told[0]["response"]["status"].startswith("403")
    assert _versions(clinic, "Observation/lab-a") == 1


@pytest.mark.requirement("16")
@pytest.mark.parametrize("label", ["security", "tag", "profile"])
def test_a_label_that_the_grant_is_about_cannot_be_changed_to_get_at_it(clinic, label):
    value = "http://x.example/p" if label == "profile" else {"system": "urn:l", "code": "N"}
    asked = "_profile=http://x.example/p" if label == "profile" else f"_{label}=urn:l|N"
    caller = grant(f"patient/Observation.cruds?{asked}", patient="a")
    clinic.put({**observation("Observation/with", "Patient/a"), "meta": {label: [value]}})
    labelled = {**observation("Observation/lab-a", "Patient/a"), "meta": {label: [value]}}
    bare = observation("Observation/with", "Patient/a")
    assert clinic.ask(caller, "PUT", "Observation/lab-a", labelled).status == 404
    assert clinic.ask(caller, "PUT", "Observation/with", bare).status == 403
    remove = [{"op": "remove", "path": f"/meta/{label}"}]
    assert clinic.ask(caller, "PATCH", "Observation/with", remove).status == 403
    assert clinic.ask(caller, "DELETE", "Observation/lab-a").status == 404
    assert clinic.ask(caller, "PUT", "Observation/with", {**labelled, "id": "with"}).status == 200


@pytest.mark.requirement("16")
@pytest.mark.parametrize(
    "name", ["Observation/lab-b", "Patient/b", "Condition/flu-b", "Observation/new"]
)
def test_ids_are_not_chosen_by_who_is_limited(clinic, name):
    type, _, id = name.partition("/")
    made = next(e for e in people.of_patient("a", "Ash") if e["resourceType"] == type)
    made = {**made, "id": id}
    before = clinic.ask(EVERYBODY, "GET", name).body
    for headers in ([], [("if-match", 'W/"1"')], [("if-none-match", "*")]):
        assert clinic.ask(OF_A, "PUT", name, made, headers).status == 404
    assert clinic.ask(OF_A, "PUT", f"{type}?_id={id}", made).status == 404
    assert clinic.ask(EVERYBODY, "GET", name).body == before
    assert (
        clinic.ask(
            SYSTEM, "PUT", "Observation/new", observation("Observation/new", "Patient/b")
        ).status
        == 201
    )


@pytest.mark.requirement("16", "8")
def test_conditions_select_only_what_may_be_seen(clinic):
    body = {n: v for n, v in observation("Observation/x", "Patient/a").items() if n != "id"}
    for query in ("_id=lab-b", "patient=b", "subject:Patient.family=Birch", "_id=vital-a"):
        made = clinic.ask(LABS, "POST", "Observation", body, [("if-none-exist", query)])
        assert made.status in (201, 403)  # a chain over Patient has no scope
        assert clinic.ask(LABS, "DELETE", f"Observation?{query}").status in (204, 403)
        patch = [{"op": "add", "path": "/language", "value": "en"}]
        assert clinic.ask(LABS, "PATCH", f"Observation?{query}", patch).status in (404, 403)
    for name in ("lab-b", "vital-b", "vital-a"):
        assert _versions(clinic, f"Observation/{name}") == 1
    again = clinic.ask(OF_A, "POST", "Observation", body, [("if-none-exist", "_id=lab-a")])
    assert (again.status, again.json["id"]) == (200, "lab-a")


@pytest.mark.requirement("16")
def test_a_condition_does_not_count_what_is_hidden(clinic):
    """Two meet the condition, of which the caller sees one."""
    code = "code=http://loinc.org%7C718-7&category=laboratory"
    patch = [{"op": "add", "path": "/language", "value": "en"}]
    assert clinic.ask(OF_A, "PATCH", f"Observation?{code}", patch).json["id"] == "lab-a"
    assert clinic.ask(SYSTEM, "PATCH", f"Observation?{code}", patch).status == 412
    assert clinic.ask(OF_A, "DELETE", f"Observation?{code}").status == 204
    assert clinic.ask(EVERYBODY, "GET", "Observation/lab-b").status == 200


@pytest.mark.requirement("16", "K2")
def test_who_sees_a_part_of_a_provenance_cannot_write_over_the_rest(clinic):
    mine = provenance("Provenance/both", "Observation/lab-a")
    assert clinic.ask(OF_A, "GET", "Provenance/both").status == 200
    assert clinic.ask(OF_A, "PUT", "Provenance/both", mine).status == 404
    patch = [{"op": "add", "path": "/language", "value": "en"}]
    assert clinic.ask(OF_A, "PATCH", "Provenance/both", patch).status == 404
    assert clinic.ask(OF_A, "DELETE", "Provenance/both").status == 404
    assert clinic.ask(OF_A, "DELETE", "Provenance?_id=both").status == 204
    assert _versions(clinic, "Provenance/both") == 1
    assert clinic.ask(FAMILY, "DELETE", "Provenance/both").status == 204


_MEETING = people.resource(
    "Appointment/alone",
    status="proposed",
    participant=[{"status": "accepted", "actor": reference("Patient/a")}],
)


@pytest.mark.requirement("16", "E6")
@pytest.mark.parametrize("condition", [False, True])
@pytest.mark.parametrize("method", ["DELETE", "PUT", "PATCH"])
def test_what_is_another_patients_too_is_neither_changed_nor_deleted(clinic, method, condition):
    """Not even so that the other is no longer named: it would be gone for them."""
    clinic.put(_MEETING)

    def asked(caller, id):
        body = {"PUT": {**_MEETING, "id": id}, "PATCH": [_ALONE]}.get(method)
        url = f"Appointment?_id={id}" if condition else f"Appointment/{id}"
        return clinic.ask(caller, method, url, body)

    refused = asked(OF_A, "both")
    assert (refused.status, refused.code) == (403, "forbidden")
    assert clinic.ask(OF_A, "GET", "Appointment/both").header("etag") == 'W/"1"'
    assert asked(OF_A, "alone").status in (200, 204)
    assert asked(FAMILY, "both").status in (200, 204)


_ALONE = {
    "op": "replace",
    "path": "/participant",
    "value": _MEETING["participant"],
}


@pytest.mark.requirement("16")
def test_a_deletion_by_a_condition_removes_all_or_nothing_where_one_is_anothers_too(clinic):
    clinic.put(_MEETING)

    assert clinic.ask(OF_A, "DELETE", "Appointment?status=proposed").status == 403
    assert clinic.ask(OF_A, "GET", "Appointment/alone").status == 200
    entry = _entry("DELETE", "Appointment/both")
    for kind, status in (("transaction", 403), ("batch", 200)):
        answer = clinic.ask(OF_A, "POST", "", _bundle(kind, entry))
        assert answer.status == status
        assert _versions(clinic, "Appointment/both") == 1


@pytest.mark.requirement("16", "21")
def test_audit_events_are_reported_by_who_is_not_limited_only(clinic):
    event = {
        "resourceType": "AuditEvent",
        "type": {"code": "rest"},
        "recorded": "2024-01-01T00:00:00Z",
        "agent": [{"requestor": True, "who": reference("Patient/a")}],
        "source": {"observer": {"display": "x"}},
        "entity": [{"what": reference("Patient/a")}],
    }
    for caller in (OF_A, FAMILY, grant("patient/AuditEvent.c", patient="a")):
        assert clinic.ask(caller, "POST", "AuditEvent", event).status == 403
    assert clinic.ask(SYSTEM, "POST", "AuditEvent", event).status == 201
    assert (
        clinic.ask(grant("user/AuditEvent.c", reach=None), "POST", "AuditEvent", event).status
        == 201
    )


# --- 15: Bundles ---------------------------------------------------------------------------------


@pytest.mark.requirement("15", "S6")
@pytest.mark.parametrize(
    "bad",
    [
        _entry("GET", "Observation/lab-b"),
        _entry("DELETE", "Observation/lab-b"),
        _entry("PUT", "Observation/lab-b", observation("Observation/lab-b", "Patient/a")),
        _entry("POST", "Observation", observation("Observation/x", "Patient/b")),
        _entry("PATCH", "Observation/lab-b", people.resource("Binary/p", contentType="application/json-patch+json", data="W10=")),
        _entry("GET", "Observation/lab-b/_history"),
        _entry("POST", "Practitioner", people.resource("Practitioner/x")),
    ],
    ids=lambda each: each["request"]["method"] + " " + each["request"]["url"],
)  # fmt: skip
def test_one_entry_that_is_refused_spoils_a_transaction_and_itself_in_a_batch(clinic, bad):
    good = _entry("POST", "Observation", observation("Observation/x", "Patient/a", language="nb"))
    alone = clinic.ask(OF_A, "POST", "", _bundle("batch", good, bad)).json["entry"]
    assert [each["response"]["status"][:3] in ("403", "404") for each in alone] == [False, True]
    assert clinic.ask(OF_A, "GET", "Observation?_summary=count").json["total"] == 3
    whole = clinic.ask(OF_A, "POST", "", _bundle("transaction", good, bad))
    assert whole.status in (403, 404)
    assert clinic.ask(OF_A, "GET", "Observation?_summary=count").json["total"] == 3
    assert clinic.ask(EVERYBODY, "GET", "Observation/lab-b").json["subject"] == reference(
        "Patient/b"
    )


@pytest.mark.requirement("15")
def test_references_inside_a_transaction_are_judged_when_all_is_there(clinic):
    new = {"fullUrl": "urn:uuid:7c2f0a5e-3b4d-4f53-9a55-0d0f8f3b0a01"}
    made = _entry("POST", "Observation", observation("Observation/x", "Patient/a")) | new
    told = _entry("POST", "Provenance", provenance("Provenance/x", new["fullUrl"]))
    kept = _entry("POST", "Binary", binary("Binary/x", new["fullUrl"]))
    for order in ([made, told, kept], [told, kept, made]):
        answer = clinic.ask(OF_A, "POST", "", _bundle("transaction", *order))
        assert answer.status == 200, answer.body
        clinic.ask(OF_A, "DELETE", "Observation?_id:not=lab-a,vital-a")
    other = _entry("POST", "Observation", observation("Observation/x", "Patient/b")) | new
    assert clinic.ask(OF_A, "POST", "", _bundle("transaction", told, other)).status == 403
    assert clinic.names(EVERYBODY, "Observation?patient=b&_summary=false") == [
        "Observation/lab-b",
        "Observation/vital-b",
    ]


@pytest.mark.requirement("15", "2")
def test_a_conditional_reference_finds_only_what_may_be_seen(clinic):
    clinic.put(people.resource("Patient/b", identifier=[{"system": "urn:mrn", "value": "2"}]))
    clinic.put(people.resource("Patient/a", identifier=[{"system": "urn:mrn", "value": "1"}]))

    def asked(value):
        made = observation("Observation/x", f"Patient?identifier=urn:mrn|{value}")
        return clinic.ask(
            OF_A, "POST", "", _bundle("transaction", _entry("POST", "Observation", made))
        )

    assert asked("1").status == 200
    hidden, absent = asked("2"), asked("3")
    assert (hidden.status, hidden.body) == (412, absent.body)
    alone = grant("patient/Observation.cruds", patient="a")
    made = observation("Observation/x", "Patient?identifier=urn:mrn|1")
    refused = clinic.ask(
        alone, "POST", "", _bundle("transaction", _entry("POST", "Observation", made))
    )
    assert (refused.status, refused.code) == (403, "forbidden")


@pytest.mark.requirement("15", "11")
def test_what_a_create_finds_in_a_transaction_need_not_be_readable(clinic):
    finder = grant("patient/Observation.cs", patient="a")
    made = observation("Observation/x", "Patient/a")
    for query, status in (("_id=lab-a", "200"), ("_id=lab-b", "201"), ("_id=never", "201")):
        entry = _entry("POST", "Observation", made, ifNoneExist=query)
        answer = clinic.ask(finder, "POST", "", _bundle("transaction", entry))
        assert answer.json["entry"][0]["response"]["status"].startswith(status)
    assert clinic.ask(finder, "GET", "Observation/lab-a").status == 403


@pytest.mark.requirement("15")
def test_an_entry_of_another_server_leads_nowhere(clinic):
    for url in ("https://evil.example/fhir/Patient/b", "http://clinic.example/fhirPatient/b"):
        answer = clinic.ask(OF_A, "POST", "", _bundle("batch", _entry("GET", url)))
        assert answer.json["entry"][0]["response"]["status"].startswith("404")


@pytest.mark.requirement("E6")
def test_where_references_are_checked_a_hidden_target_is_missing(runner, tmp_path):
    store = runner.run(opened(tmp_path / "checked"))
    clinic = Clinic(store, runner, references="check")
    clinic.put(*people.ALL[:40])
    for target, status in [("visit-a", 201), ("visit-b", 422), ("never", 422)]:
        made = observation("Observation/x", "Patient/a", encounter=reference(f"Encounter/{target}"))
        assert clinic.ask(OF_A, "POST", "Observation", made).status == status
    few = grant("patient/Observation.cruds", patient="a")
    assert (
        clinic.ask(few, "POST", "Observation", observation("Observation/x", "Patient/a")).status
        == 201
    )
    lost = observation("Observation/lost", "Patient/a", encounter=reference("Encounter/never"))
    own = observation("Observation/own", "Patient/a", hasMember=[reference("Observation/own")])
    batch = _bundle(
        "batch", _entry("PUT", "Observation/lost", lost), _entry("PUT", "Observation/own", own)
    )
    answer = clinic.ask(SYSTEM, "POST", "", batch)
    assert [e["response"]["status"][:3] for e in answer.json["entry"]] == ["422", "201"]
    assert clinic.ask(EVERYBODY, "GET", "Observation/lost").status == 404
    runner.run(store.close())
