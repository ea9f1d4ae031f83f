"""Patient/$everything, Observation/$lastn, DocumentReference/$docref and $meta over HTTP.

https://hl7.org/fhir/R4/patient-operation-everything.html
"""

import uuid

import pytest

VITAL = "http://terminology.hl7.org/CodeSystem/observation-category"
LOINC = "http://loinc.org"


def reference(name):
    return {"reference": name}


def named(answer):
    """Type/id of the entries of a searchset, in order."""
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    return ["/".join(each["fullUrl"].rsplit("/", 2)[1:]) for each in entries]


def pages(fhir, url):
    """The names on every page of a searchset."""
    found = []
    while url is not None:
        answer = fhir.get(url)
        found.append(named(answer))
        links = {each["relation"]: each["url"] for each in answer.json()["link"]}
        url = links.get("next")
    return found


@pytest.fixture(scope="module")
def fhir(living):
    """The server of these tests, which all look at one chart."""
    with living.client() as client:
        yield client


@pytest.fixture(scope="module")
def chart(fhir):
    """A patient with a chart, and another; `id` makes the names of one chart apart."""
    id = uuid.uuid4().hex[:8]

    def put(name, /, **elements):
        type, _, own = name.partition("/")
        sent = {"resourceType": type, "id": own, **elements}
        answer = fhir.put(f"/{name}", json=sent)
        assert answer.status_code in (200, 201), answer.text

    def observe(name, whose, code, at=None, **more):
        timed = {"effectiveDateTime": at} if at else {}
        coding = [{"system": LOINC, "code": each} for each in code.split()]
        put(
            f"Observation/{name}-{id}",
            status="final",
            code={"coding": coding},
            subject=reference(f"Patient/{whose}-{id}"),
            **timed,
            **more,
        )

    put(f"Organization/ward-{id}", name="Ward")
    put(f"Organization/maker-{id}", name="Maker")
    put(f"Practitioner/doc-{id}", name=[{"family": "House"}])
    put(f"Practitioner/other-{id}", name=[{"family": "Other"}])
    put(f"Location/room-{id}", name="Room")
    put(f"Medication/pill-{id}", code={"text": "pill"})
    put(
        f"PractitionerRole/role-{id}",
        practitioner=reference(f"Practitioner/doc-{id}"),
        organization=reference(f"Organization/ward-{id}"),
    )
    for whose in ("ann", "bob"):
        put(f"Patient/{whose}-{id}", name=[{"family": whose}])
    ann = reference(f"Patient/ann-{id}")
    put(
        f"Encounter/visit-{id}",
        status="finished",
        subject=ann,
        period={"start": "2021-05-01", "end": "2021-05-03"},
        location=[{"location": reference(f"Location/room-{id}")}],
        participant=[{"individual": reference(f"PractitionerRole/role-{id}")}],
        **{"class": {"code": "AMB"}},
    )
    put(
        f"MedicationRequest/rx-{id}",
        status="active",
        intent="order",
        subject=ann,
        authoredOn="2022-01-01",
        medicationReference=reference(f"Medication/pill-{id}"),
    )
    _observed(observe, id)
    return id


def _observed(observe, id):
    """The observations of the chart."""
    observe("old", "ann", "8867-4", "2020-01-01T10:00:00Z")
    observe("new", "ann", "8867-4", "2022-01-01T10:00:00Z")
    observe("tie", "ann", "8867-4", "2022-01-01T10:00:00Z")
    observe("bp", "ann", "85354-9 55284-4", "2021-01-01")
    observe("bp2", "ann", "55284-4", "2019-01-01")
    observe("undated", "ann", "718-7")
    observe(
        "bobs", "bob", "8867-4", "2023-01-01", performer=[reference(f"Practitioner/other-{id}")]
    )


def of(chart, *names):
    return [f"{each}-{chart}" for each in names]


EVERYTHING = [
    "Patient/ann", "Encounter/visit", "MedicationRequest/rx", "Observation/old", "Observation/new",
    "Observation/tie", "Observation/bp", "Observation/bp2", "Observation/undated",
    "PractitionerRole/role", "Practitioner/doc", "Location/room", "Medication/pill",
    "Organization/ward",
]  # fmt: skip


def test_everything_of_a_patient_is_their_compartment_and_what_it_refers_to(fhir, chart):
    answer = fhir.get(f"/Patient/ann-{chart}/$everything")
    assert named(answer) == of(chart, *EVERYTHING)
    bundle = answer.json()
    assert (bundle["type"], bundle["total"]) == ("searchset", 9)
    modes = [each["search"]["mode"] for each in bundle["entry"]]
    assert modes == ["match"] * 9 + ["include"] * 5
    posted = fhir.post(f"/Patient/ann-{chart}/$everything", json={"resourceType": "Parameters"})
    assert named(posted) == of(chart, *EVERYTHING)


@pytest.mark.parametrize("count", [1, 2, 5, 13, 14])
def test_everything_comes_in_pages_each_resource_once(fhir, chart, count):
    found = pages(fhir, f"/Patient/ann-{chart}/$everything?_count={count}")
    assert [each for page in found for each in page] == of(chart, *EVERYTHING)
    assert {len(page) for page in found[:-1]} <= {count}
    assert len(found[-1]) <= count


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("_type=Observation,Patient&end=2021-01-01",
         ["Patient/ann", "Observation/old", "Observation/bp", "Observation/bp2",
          "Observation/undated"]),
        ("_type=Observation&_type=Encounter&start=2021-05-02&end=2021",
         ["Encounter/visit", "Observation/undated"]),
        ("_type=Practitioner", ["Practitioner/doc"]),
        ("_since=2999-01-01", []),
        ("_type=Observation&_since=2001-01-01&start=2022&end=2022-01-01T10:00:00Z",
         ["Observation/new", "Observation/tie", "Observation/undated"]),
    ],
)  # fmt: skip
def test_everything_is_narrowed_by_dates_types_and_time_of_change(fhir, chart, query, names):
    assert named(fhir.get(f"/Patient/ann-{chart}/$everything?{query}")) == of(chart, *names)


def test_everything_of_the_type_is_that_of_all_patients(fhir, chart):
    found = [each for page in pages(fhir, "/Patient/$everything?_count=7") for each in page]
    assert len(found) == len(set(found))
    ours = {each for each in found if each.endswith(chart)}
    assert ours == {
        *of(chart, *EVERYTHING, "Patient/bob", "Observation/bobs", "Practitioner/other")
    }


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_type=Nothing", 400), ("start=soon", 400), ("_count=0", 400), ("_count=x", 400),
        ("_sort=date", 400), ("_count=1&_count=2", 400), ("_page=x", 404),
    ],
)  # fmt: skip
def test_what_everything_does_not_take_is_refused(fhir, chart, query, status):
    answer = fhir.get(f"/Patient/ann-{chart}/$everything?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (status, "OperationOutcome")


def test_everything_of_nobody_is_not_there(fhir, chart):
    assert fhir.get(f"/Patient/none-{chart}/$everything").status_code == 404


# --- $lastn --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["tie", "new", "bp", "undated"]),
        ("&max=2", ["tie", "new", "bp", "bp2", "undated"]),
        ("&max=3", ["tie", "new", "bp", "old", "bp2", "undated"]),
        ("&code=8867-4", ["tie", "new"]),
        ("&date=lt2022&max=1", ["bp", "old"]),
    ],
)
def test_lastn_gives_the_newest_of_each_code_and_keeps_ties(fhir, chart, query, names):
    found = named(fhir.get(f"/Observation/$lastn?patient=ann-{chart}{query}"))
    wanted = of(chart, *(f"Observation/{each}" for each in names))
    assert sorted(found[:2]) == sorted(wanted[:2]) and found[2:] == wanted[2:]


def test_lastn_finds_the_same_whatever_lies_on_top_of_it(fhir, chart):
    sent = {"resourceType": "Bundle", "type": "batch", "entry": []}
    for number in range(250):
        resource = {
            "resourceType": "Observation",
            "status": "final",
            "code": {"coding": [{"system": LOINC, "code": "59408-5"}]},
            "subject": reference(f"Patient/ann-{chart}"),
            "effectiveDateTime": f"2024-01-01T10:{number // 60:02d}:{number % 60:02d}Z",
        }
        request = {"method": "POST", "url": "Observation"}
        sent["entry"].append({"resource": resource, "request": request})
    made = fhir.post("", json=sent).json()["entry"]
    try:
        found = named(fhir.get(f"/Observation/$lastn?subject=Patient/ann-{chart}&max=2"))
        assert len(found) == 7
        rest = ["tie", "new", "bp", "bp2", "undated"]
        assert sorted(found[2:]) == sorted(of(chart, *(f"Observation/{each}" for each in rest)))
    finally:
        for each in made:
            fhir.delete("/" + "/".join(each["response"]["location"].split("/")[-4:-2]))


def test_lastn_takes_parameters_in_a_body(fhir, chart):
    sent = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "max", "valuePositiveInt": 1},
            {"name": "patient", "valueReference": reference(f"Patient/ann-{chart}")},
            {
                "name": "code",
                "valueCodeableConcept": {"coding": [{"system": LOINC, "code": "8867-4"}]},
            },
        ],
    }
    found = named(fhir.post("/Observation/$lastn", json=sent))
    assert sorted(found) == sorted(of(chart, "Observation/new", "Observation/tie"))


@pytest.mark.parametrize(
    "query", ["", "code=8867-4", "patient=x&max=0", "patient=x&max=101", "patient=x&_count=1",
              "patient=x&max=1&max=2", "patient=x&max=2020-02-30", "patient=x&max=20200",
              "patient=x&max=%C2%B2", "patient=x&nothing=1"]
)  # fmt: skip
def test_what_lastn_does_not_take_is_refused(fhir, query):
    answer = fhir.get(f"/Observation/$lastn?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")


# --- $docref -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def documents(fhir, chart):
    def put(name, code, date, start=None, status="current"):
        sent = {
            "resourceType": "DocumentReference",
            "id": f"{name}-{chart}",
            "status": status,
            "type": {"coding": [{"system": LOINC, "code": code}]},
            "subject": reference(f"Patient/ann-{chart}"),
            "date": date,
            "content": [{"attachment": {"url": "https://x.example/1"}}],
        }
        if start:
            sent["context"] = {"period": {"start": start, "end": start}}
        answer = fhir.put(f"/DocumentReference/{sent['id']}", json=sent)
        assert answer.status_code in (200, 201), answer.text

    put("ccd1", "34133-9", "2020-01-01T00:00:00Z")
    put("ccd2", "34133-9", "2021-01-01T00:00:00Z")
    put("gone", "34133-9", "2022-01-01T00:00:00Z", status="superseded")
    put("note", "11488-4", "2023-01-01T00:00:00Z", start="2019-06-01")
    return chart


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["note", "ccd2"]),
        ("&type=http://loinc.org|34133-9", ["ccd2"]),
        ("&start=2019&end=2020", ["ccd1", "note"]),
        ("&start=2020-06-01", ["ccd2"]),
        ("&end=2020-06-01", ["ccd1", "note"]),
        ("&profile=http://none.example", []),
        ("&on-demand=false", ["note", "ccd2"]),
    ],
)
def test_docref_finds_current_documents_or_those_of_a_time(fhir, documents, query, names):
    found = named(fhir.get(f"/DocumentReference/$docref?patient=ann-{documents}{query}"))
    wanted = of(documents, *(f"DocumentReference/{each}" for each in names))
    assert (found if "start" not in query and "end" not in query else sorted(found)) == (
        wanted if "start" not in query and "end" not in query else sorted(wanted)
    )


def test_docref_makes_no_documents_and_says_so(fhir, documents):
    sent = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueId": f"ann-{documents}"},
            {"name": "on-demand", "valueBoolean": True},
        ],
    }
    (only,) = fhir.post("/DocumentReference/$docref", json=sent).json()["entry"]
    assert only["search"]["mode"] == "outcome"
    assert only["resource"]["issue"][0]["code"] == "not-supported"


@pytest.mark.parametrize("query", ["", "patient=x&start=soon", "patient=x&on-demand=maybe",
                                   "patient=x&code=1"])  # fmt: skip
def test_what_docref_does_not_take_is_refused(fhir, query):
    answer = fhir.get(f"/DocumentReference/$docref?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")


# --- $meta ---------------------------------------------------------------------------------------


def meta(answer):
    assert answer.status_code == 200, answer.text
    (parameter,) = answer.json()["parameter"]
    assert parameter["name"] == "return"
    return parameter.get("valueMeta", {})


def test_labels_are_told_added_and_removed(fhir):
    label, tag = uuid.uuid4().hex, {"system": "http://tags", "code": uuid.uuid4().hex}
    profile = f"http://profiles.example/{label}"
    sent = {"resourceType": "Basic", "code": {"text": "x"}, "meta": {"profile": [profile]}}
    made = fhir.post("/Basic", json=sent).json()
    url = f"/Basic/{made['id']}"
    assert meta(fhir.get(f"{url}/$meta"))["profile"] == [profile]

    def change(name, value):
        parameter = {"name": "meta", "valueMeta": value}
        body = {"resourceType": "Parameters", "parameter": [parameter]}
        return meta(fhir.post(f"{url}/${name}", json=body))

    for _ in range(2):
        added = change("meta-add", {"tag": [{**tag, "display": "a tag"}], "profile": [profile]})
        assert added["tag"] == [{**tag, "display": "a tag"}]
        assert added["profile"] == [profile]
    assert fhir.get(url).json()["meta"] == added
    for scope in ("/Basic/$meta", "/$meta"):
        told = meta(fhir.get(scope))
        assert [each["code"] for each in told["tag"] if each["code"] == tag["code"]] == [
            tag["code"]
        ]
        assert profile in told["profile"] and "versionId" not in told
    left = change("meta-delete", {"tag": [tag]})
    assert "tag" not in left and left["profile"] == [profile]
    assert tag["code"] not in [e.get("code") for e in meta(fhir.get("/Basic/$meta")).get("tag", [])]
    assert fhir.get(url).json()["meta"]["versionId"] == left["versionId"] == "3"
    assert change("meta-delete", {"tag": [tag]}) == left  # which changes nothing any more


@pytest.mark.parametrize(
    "sent",
    [
        {"resourceType": "Parameters"},
        {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {}}]},
        {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": "x"}}]},
        {"resourceType": "Parameters", "parameter": [{"name": "tag", "valueCoding": {}}]},
        {"resourceType": "Basic"},
    ],
)
def test_what_is_no_meta_is_refused(fhir, sent):
    made = fhir.post("/Basic", json={"resourceType": "Basic", "code": {"text": "x"}}).json()
    answer = fhir.post(f"/Basic/{made['id']}/$meta-add", json=sent)
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")
    assert fhir.get(f"/Basic/{made['id']}").json() == made


def test_the_capability_statement_names_the_operations_with_their_definitions(fhir):
    (rest,) = fhir.get("/metadata").json()["rest"]
    types = {each["type"]: each.get("operation", []) for each in rest["resource"]}

    def definition(type, name):
        return next(each["definition"] for each in types[type] if each["name"] == name)

    hl7 = "http://hl7.org/fhir/OperationDefinition"
    assert definition("Patient", "everything") == f"{hl7}/Patient-everything"
    assert definition("Observation", "lastn") == f"{hl7}/Observation-lastn"
    assert definition("Basic", "meta-add") == f"{hl7}/Resource-meta-add"
    core = "http://hl7.org/fhir/us/core/OperationDefinition/docref"
    assert definition("DocumentReference", "docref") == core
    assert {"name": "meta", "definition": f"{hl7}/Resource-meta"} in rest["operation"]
