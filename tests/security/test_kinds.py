"""The types that have a rule of their own: what belongs with something else, what is shared, what
names many, and what was deleted, merged or written before there was a rule.

Sections 2.2 and 11.1 (20, 21, 25) of the notes. https://hl7.org/fhir/R4/compartmentdefinition.html
"""

import base64

import pytest

from fhir_server import owners
from fhir_server.search.index import CONTEXT, Index
from fhir_server.storage.sqlite import SqliteStore
from salus.reindex import reindex
from tests.derived_keys import DerivedKeys
from tests.security import people
from tests.security.clinic import EVERYBODY, KEY, Clinic, core, grant, opened
from tests.security.people import CATEGORY, LAB, VITAL, observation, provenance, reference

OF_A = grant("patient/*.rs", patient="a")
OF_B = grant("patient/*.rs", patient="b")
SYSTEM = grant("system/*.cruds")


# --- each type's rule ----------------------------------------------------------------------------


@pytest.mark.requirement("21", "K1", "K3", "K4", "K5")
@pytest.mark.parametrize(
    ("type", "found"),
    [
        ("Patient", ["Patient/a"]),
        ("Device", ["Device/pump-a"]),
        ("Task", ["Task/call-a"]),
        ("List", ["List/mine-a"]),
        ("Consent", ["Consent/yes-a"]),
        ("Binary", ["Binary/report-a", "Binary/scan-a"]),
        ("Provenance", ["Provenance/both", "Provenance/of-a"]),
        ("Appointment", ["Appointment/both"]),
        ("Group", []),
        ("Bundle", []),
        ("Subscription", []),
        ("Practitioner", ["Practitioner/doc", "Practitioner/nurse"]),
        ("Organization", ["Organization/org"]),
        ("Medication", ["Medication/pill"]),
    ],
)
def test_a_patient_finds_by_the_rule_of_the_type(clinic, type, found):
    assert sorted(clinic.names(OF_A, type)) == found
    for name in clinic.names(EVERYBODY, type):
        status = clinic.ask(OF_A, "GET", name).status
        assert status == (200 if name in found else 404), name


@pytest.mark.requirement("K4")
def test_a_type_without_a_rule_is_denied():
    index = core().index
    ruled = {
        type
        for type in index.definitions.types
        if owners.belonging(type, index) or type in owners.SHARED
    }
    assert (
        sorted(index.definitions.types - ruled)
        == (
            "BiologicallyDerivedProduct Bundle CatalogEntry Contract DeviceMetric EffectEvidenceSynthesis"
            " EnrollmentResponse Evidence EvidenceVariable ExampleScenario Group GuidanceResponse Linkage"
            " MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication"
            " MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction"
            " MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical"
            " MedicinalProductUndesirableEffect OperationOutcome Parameters PaymentNotice"
            " PaymentReconciliation ResearchDefinition ResearchElementDefinition ResearchStudy"
            " RiskEvidenceSynthesis Slot Subscription SubstanceNucleicAcid SubstancePolymer"
            " SubstanceProtein SubstanceReferenceInformation SubstanceSourceMaterial"
            " SubstanceSpecification TestReport TestScript VerificationResult"
        ).split()
    )
    assert owners.belonging("List", index) == {"subject"}
    assert owners.belonging("Patient", index) == {"_id"}
    assert owners.naming("List", index) == {"subject", "source"}
    assert owners.naming("Patient", index) == {"link"}


@pytest.mark.requirement("K3", "16")
@pytest.mark.parametrize("type", ["Practitioner", "Organization", "Medication"])
def test_what_is_shared_is_read_and_not_written_by_who_is_limited(clinic, type):
    limited = grant("patient/*.cruds", patient="a")
    name = clinic.names(limited, type)[0]
    made = clinic.ask(limited, "GET", name).json
    assert clinic.ask(limited, "PUT", name, made).status == 404
    assert clinic.ask(limited, "DELETE", name).status == 404
    assert clinic.ask(limited, "POST", type, made).status == 403
    assert clinic.ask(SYSTEM, "PUT", name, made).status == 200


@pytest.mark.requirement("25", "K5")
def test_a_link_between_patients_widens_nothing(clinic):
    linked = people.resource("Patient/old-a", name=[{"family": "Ash"}], active=False,
                             link=[{"other": reference("Patient/a"), "type": "replaced-by"}])  # fmt: skip
    clinic.put(linked, observation("Observation/old-a", "Patient/old-a"))
    for name in ("Patient/old-a", "Observation/old-a"):
        assert clinic.ask(OF_A, "GET", name).status == 404
    old = grant("patient/*.rs", patient="old-a")
    assert clinic.names(old, "Observation") == ["Observation/old-a"]
    assert clinic.names(old, "Patient?_include=Patient:link") == ["Patient/old-a"]
    assert clinic.names(OF_A, "Patient?_revinclude=Patient:link") == ["Patient/a"]
    for name in ("Patient/old-a", "Observation/old-a"):
        assert clinic.ask(SYSTEM, "DELETE", name).status == 204


# --- Provenance ----------------------------------------------------------------------------------


def _targets(answer):
    return [each["reference"] for each in answer.json["target"]]


@pytest.mark.requirement("21", "K2")
def test_of_a_provenance_the_targets_leave_that_may_be_seen(clinic):
    assert _targets(clinic.ask(OF_A, "GET", "Provenance/both")) == ["Observation/lab-a"]
    assert _targets(clinic.ask(OF_B, "GET", "Provenance/both")) == ["Observation/lab-b"]
    whole = clinic.ask(EVERYBODY, "GET", "Provenance/both")
    assert _targets(whole) == ["Observation/lab-a", "Observation/lab-b"]
    entity = clinic.ask(OF_A, "GET", "Provenance/both").json["entity"]
    assert [each["what"] for each in entity] == [reference("Condition/flu-a")]
    for url in (
        "Provenance?_id=both",
        "Observation?_revinclude=Provenance:target",
        "Provenance/both/_history",
        "Provenance/_history",
        "_history",
        "?_type=Provenance",
        "Provenance/both/_history/1",
        "Provenance?_id=both&_elements=target,entity",
        "Provenance/both?_summary=data",
    ):
        body = clinic.ask(OF_A, "GET", url).body
        assert b"lab-a" in body and b"lab-b" not in body and b"flu-b" not in body, url
    entry = {"request": {"method": "GET", "url": "Provenance/both"}}
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry]}
    assert b"lab-b" not in clinic.ask(OF_A, "POST", "", bundle).body


@pytest.mark.requirement("21", "K2")
def test_a_provenance_with_no_target_to_be_seen_is_hidden(clinic):
    assert clinic.ask(OF_A, "GET", "Provenance/of-b").status == 404
    conditions = grant("patient/Condition.rs patient/Provenance.rs", patient="a")
    assert clinic.names(conditions, "Provenance") == []
    labs = grant(f"patient/Observation.rs?category={CATEGORY}|{VITAL} patient/Provenance.rs", patient="a")  # fmt: skip
    assert clinic.names(labs, "Provenance") == []


@pytest.mark.requirement("21", "8")
@pytest.mark.parametrize(
    "query",
    [
        "target=Observation/lab-b",
        "entity=Condition/flu-b",
        "patient=Patient/b",
        "target:Observation.subject:Patient.family=Birch",
        "target=http://other.example/Observation/1",
        "target:identifier=urn:x|1",
    ],
)
def test_what_is_cut_cannot_be_found_out_by_searching(clinic, query):
    clinic.put(
        provenance(
            "Provenance/mixed",
            "Observation/lab-a",
            "Patient/b",
            "http://other.example/Observation/1",
        )
    )
    assert clinic.names(OF_A, f"Provenance?{query}") == []
    assert clinic.ask(OF_A, "GET", f"Provenance?{query}&_summary=count").json["total"] == 0
    assert clinic.names(OF_A, f"Observation?_has:Provenance:target:{query}") == []
    assert clinic.ask(OF_A, "GET", "Provenance?_sort=target").status == 400
    assert clinic.ask(OF_A, "GET", "Provenance?_sort=-recorded").status == 200
    assert clinic.ask(SYSTEM, "DELETE", "Provenance/mixed").status == 204


def test_what_is_signed_or_told_of_the_whole_does_not_leave_with_a_part(clinic):
    signed = {
        "type": [{"code": "x"}],
        "when": "2024-01-01T00:00:00Z",
        "who": reference("Practitioner/doc"),
        "data": "bGFiLWI=",
    }
    told = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">of b</div>'}
    clinic.put(
        provenance("Provenance/signed", "Observation/lab-a", "Observation/lab-b", signature=[signed], text=told),
        provenance("Provenance/alone", "Observation/lab-a", signature=[signed], text=told),
    )  # fmt: skip
    part = clinic.ask(OF_A, "GET", "Provenance/signed").json
    assert "signature" not in part and "text" not in part
    whole = clinic.ask(OF_A, "GET", "Provenance/alone").json
    assert whole["signature"] == [signed] and whole["text"] == told
    for name in ("signed", "alone"):
        clinic.ask(SYSTEM, "DELETE", f"Provenance/{name}")


# --- AuditEvent ----------------------------------------------------------------------------------


@pytest.mark.requirement("21", "K4")
def test_a_patient_sees_who_looked_but_not_at_whom_else(clinic):
    doctor = grant("user/*.rs", agent="Practitioner/doc", reach=None, id="doctor")
    assert len(clinic.names(doctor, "Observation?category=laboratory&patient=a,b")) >= 2
    assert clinic.ask(doctor, "GET", "Patient/b").status == 200
    found = clinic.ask(OF_A, "GET", "AuditEvent?_sort=-date&_count=1000").json["entry"]
    events = [each["resource"] for each in found]
    named = {
        entity.get("what", {}).get("reference", "").partition("/_history")[0]
        for event in events
        for entity in event.get("entity", [])
    }
    assert "Patient/a" in named
    assert [each for each in named if each.endswith(("-b", "/b"))] == []
    assert not any("query" in entity for event in events for entity in event.get("entity", []))
    about_doctor = [e for e in events if e["agent"][0]["who"] == reference("Practitioner/doc")]
    assert about_doctor
    for url in ("AuditEvent?entity=Patient/b", "AuditEvent?entity=Observation/lab-b"):
        assert clinic.names(OF_A, url) == []
    b_only = next(iter(clinic.names(SYSTEM, "AuditEvent?entity=Observation/vital-b")))
    assert clinic.ask(OF_A, "GET", b_only).status == 404
    assert clinic.ask(SYSTEM, "GET", b_only).status == 200


@pytest.mark.requirement("21", "8")
def test_what_an_event_says_of_others_cannot_be_found_out_by_searching(clinic):
    event = {
        "resourceType": "AuditEvent",
        "type": {"code": "rest"},
        "recorded": "2024-01-01T00:00:00Z",
        "agent": [{"requestor": True, "who": reference("Practitioner/doc")}],
        "source": {"observer": {"display": "x"}},
        "entity": [
            {"what": reference("Patient/a")},
            {"what": reference("Patient/b"), "name": "Birch", "type": {"code": "1"}},
        ],
    }
    assert clinic.ask(SYSTEM, "POST", "AuditEvent", event).status == 201
    for query in ("entity-name=Birch", "entity-type=1", "entity=Patient/b", "patient=Patient/b"):
        assert clinic.names(OF_A, f"AuditEvent?{query}&date=2024-01-01") == []
        assert len(clinic.names(SYSTEM, f"AuditEvent?{query}&date=2024-01-01")) >= 1
    (name,) = clinic.names(OF_A, "AuditEvent?date=2024-01-01")
    assert clinic.ask(OF_A, "GET", name).json["entity"] == [{"what": reference("Patient/a")}]


# --- Binary --------------------------------------------------------------------------------------


@pytest.mark.requirement("20")
def test_a_binary_is_seen_where_what_it_belongs_to_is(clinic):
    raw = [("accept", "*/*")]
    answer = clinic.ask(OF_A, "GET", "Binary/scan-a", headers=raw)
    assert (answer.status, answer.body) == (200, b"secret")
    assert answer.header("x-content-type-options") == "nosniff"
    assert (
        answer.header("content-security-policy")
        == "default-src 'none'; sandbox; frame-ancestors 'none'"
    )
    for name in ("scan-b", "report-b", "open", "never"):
        for headers in (raw, [("accept", "application/fhir+json")], [("range", "bytes=0-1")]):
            hidden = clinic.ask(OF_A, "GET", f"Binary/{name}", headers=headers)
            assert (hidden.status, hidden.header("content-type")) == (
                404,
                "application/fhir+json; charset=utf-8",
            )
    labs = grant("patient/Binary.rs patient/Condition.rs", patient="a")
    assert clinic.ask(labs, "GET", "Binary/report-a").status == 404
    assert clinic.ask(labs, "GET", "Binary/scan-a").status == 200


@pytest.mark.requirement("20", "16")
def test_a_large_binary_of_who_may_not_write_is_refused_before_it_is_stored(clinic):
    headers = [("content-type", "application/pdf"), ("x-security-context", "Patient/b")]
    large = b"x" * (2 * 1024 * 1024)
    refused = clinic.ask(OF_A, "POST", "Binary", large, headers)
    assert (refused.status, refused.code) == (403, "forbidden")
    writer = grant("patient/Binary.cr", patient="a")
    assert clinic.ask(writer, "POST", "Binary", large, headers).status == 403
    own = [headers[0], ("x-security-context", "Patient/a")]
    made = clinic.ask(writer, "POST", "Binary", large, own)
    assert made.status == 201
    pieces = clinic._runner.run(clinic.store.transaction(lambda tx: tx.range("binary", "", "\x7f")))
    assert len({each.key.partition("/")[0] for each in pieces}) == 1


@pytest.mark.requirement("20")
def test_no_search_asks_for_whose_rights_a_binary_borrows(clinic):
    for url in (f"Binary?{CONTEXT}=Patient/b", f"Binary?{CONTEXT}:missing=false"):
        assert clinic.ask(SYSTEM, "GET", url).status == 400


def test_a_folder_written_before_binaries_had_a_rule_learns_it_at_its_next_start(runner, tmp_path):
    async def told():
        index: Index = core().index
        store = await opened(tmp_path / "data")
        clinic = Clinic(store, runner)
        body = base64.b64encode(b"secret").decode()
        made = {"resourceType": "Binary", "id": "x", "contentType": "text/plain", "data": body,
                "securityContext": reference("Patient/a")}  # fmt: skip
        assert (await clinic.asked(EVERYBODY, "PUT", "Binary/x", made)).status == 201
        # As an extraction left it that knew nothing of contexts.
        await store.transaction(lambda tx: tx.reindex("Binary", "x", ()), write=True)
        await store.finish_reindex("the extraction before")
        assert (await clinic.asked(OF_A, "GET", "Binary")).names == []
        await store.close()
        store = await SqliteStore.open(
            tmp_path / "data", KEY, DerivedKeys(), extraction=index.version
        )
        assert not store.extraction_current
        await reindex(store, index)
        clinic = Clinic(store, runner)
        assert (await clinic.asked(OF_A, "GET", "Binary")).names == ["Binary/x"]
        assert (await clinic.asked(OF_B, "GET", "Binary")).names == []
        await store.close()

    runner.run(told())


# --- 25: what was ------------------------------------------------------------------------------


@pytest.mark.requirement("25", "1")
def test_a_history_shows_of_a_moved_resource_what_was_the_callers(clinic):
    clinic.put(observation("Observation/move", "Patient/b", LAB))
    clinic.put(observation("Observation/move", "Patient/a", LAB))
    clinic.put(observation("Observation/move", "Patient/a", VITAL))
    found = clinic.ask(OF_A, "GET", "Observation/move/_history").json["entry"]
    assert [each["response"]["etag"] for each in found] == ['W/"3"', 'W/"2"']
    assert clinic.ask(OF_A, "GET", "Observation/move/_history/1").status == 404
    assert clinic.ask(OF_B, "GET", "Observation/move/_history").status == 404
    vitals = grant(f"patient/Observation.rs?category={CATEGORY}|{VITAL}", patient="a")
    found = clinic.ask(vitals, "GET", "Observation/move/_history").json["entry"]
    assert [each["response"]["etag"] for each in found] == ['W/"3"']
    assert clinic.ask(SYSTEM, "DELETE", "Observation/move").status == 204
    found = clinic.ask(OF_A, "GET", "Observation/move/_history").json["entry"]
    assert [each["request"]["method"] for each in found] == ["DELETE", "PUT", "PUT"]
    assert clinic.ask(vitals, "GET", "Observation/move").status == 410
    labs = grant(f"patient/Observation.rs?category={CATEGORY}|{LAB}", patient="a")
    assert clinic.ask(labs, "GET", "Observation/move").status == 404
    assert "Observation/move" not in clinic.names(OF_B, "Observation/_history")


@pytest.mark.requirement("25")
def test_a_proxy_sees_whom_the_grant_reaches_and_no_longer(clinic):
    before = grant("user/Observation.rs", reach=frozenset("ab"), id="guardian")
    after = grant("user/Observation.rs", reach=frozenset("a"), id="guardian of one")
    assert clinic.ask(before, "GET", "Observation/lab-b").status == 200
    assert clinic.ask(after, "GET", "Observation/lab-b").status == 404
    assert clinic.names(after, "Observation?_sort=_id") == [
        "Observation/lab-a",
        "Observation/vital-a",
    ]
