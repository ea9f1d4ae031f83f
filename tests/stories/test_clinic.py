"""A clinic's day over HTTP: register, open an encounter, measure, prescribe, correct, and account
for every access."""

import uuid

import httpx


def test_a_clinic_registers_a_patient_treats_her_and_finds_every_access_in_the_audit(fhir):
    record_number = uuid.uuid4().hex
    patient = _created(fhir, _patient(record_number))
    encounter = _created(fhir, _encounter(patient))
    pressure = _created(fhir, _pressure(patient, encounter, 128))
    prescription = _created(fhir, _prescription(patient, encounter))

    found = fhir.get("/Patient", params={"identifier": f"urn:clinic|{record_number}"}).json()
    assert [entry["resource"]["id"] for entry in found["entry"]] == [patient.id]
    assert found["total"] == 1

    vitals = fhir.get(
        "/Observation",
        params={"patient": patient.id, "category": "vital-signs", "_sort": "-date"},
    ).json()
    assert [entry["resource"]["id"] for entry in vitals["entry"]] == [pressure.id]

    chart = fhir.get(
        "/Encounter",
        params={"_id": encounter.id, "_include": "Encounter:patient", "_revinclude": "*"},
    ).json()
    assert {entry["fullUrl"].removeprefix(f"{_base(fhir)}/") for entry in chart["entry"]} == {
        f"Encounter/{encounter.id}",
        f"Patient/{patient.id}",
        f"Observation/{pressure.id}",
        f"MedicationRequest/{prescription.id}",
    }

    corrected = {**_pressure(patient, encounter, 118), "id": pressure.id, "status": "corrected"}
    answer = fhir.put(f"/Observation/{pressure.id}", json=corrected, headers={"If-Match": 'W/"1"'})
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"2"'
    stale = fhir.put(f"/Observation/{pressure.id}", json=corrected, headers={"If-Match": 'W/"1"'})
    assert stale.status_code == 412
    history = fhir.get(f"/Observation/{pressure.id}/_history").json()
    assert [_systolic(entry["resource"]) for entry in history["entry"]] == [118, 128]

    seen = _accesses(fhir, f"Patient/{patient.id}")
    assert ("create", "0", f"Patient/{patient.id}/_history/1") in seen
    assert ("create", "0", f"Observation/{pressure.id}/_history/1") in seen
    assert ("create", "0", f"MedicationRequest/{prescription.id}/_history/1") in seen
    assert ("update", "0", f"Observation/{pressure.id}/_history/2") in seen
    assert ("search-type", "0", f"Patient/{patient.id}") in seen
    assert ("history-instance", "0", f"Observation/{pressure.id}") in seen
    refused = _accesses(fhir, f"Observation/{pressure.id}")
    assert ("update", "4", f"Observation/{pressure.id}") in refused


def test_what_a_clinic_deletes_is_gone_but_its_history_is_not(fhir):
    patient = _created(fhir, _patient(uuid.uuid4().hex))
    assert fhir.delete(f"/Patient/{patient.id}").status_code == 204
    gone = fhir.get(f"/Patient/{patient.id}")
    assert gone.status_code == 410
    assert gone.json()["issue"][0]["code"] == "deleted"
    assert fhir.delete(f"/Patient/{patient.id}").status_code == 204
    history = fhir.get(f"/Patient/{patient.id}/_history").json()
    assert [entry["request"]["method"] for entry in history["entry"]] == ["DELETE", "POST"]
    assert fhir.get(f"/Patient/{patient.id}/_history/1").status_code == 200
    assert fhir.get(f"/Patient/{patient.id}/_history/2").status_code == 410
    assert fhir.get("/Patient", params={"_id": patient.id}).json()["total"] == 0


# --- the clinic's words --------------------------------------------------------------------------


class _Stored:
    def __init__(self, resource: dict) -> None:
        self.id = resource["id"]
        self.reference = {"reference": f"{resource['resourceType']}/{self.id}"}


def _created(fhir: httpx.Client, resource: dict) -> _Stored:
    answer = fhir.post(f"/{resource['resourceType']}", json=resource)
    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == 'W/"1"'
    stored = answer.json()
    location = f"{_base(fhir)}/{resource['resourceType']}/{stored['id']}/_history/1"
    assert answer.headers["location"] == location
    assert {k: v for k, v in stored.items() if k not in ("id", "meta")} == resource
    return _Stored(stored)


def _base(fhir: httpx.Client) -> str:
    return str(fhir.base_url).rstrip("/")


def _accesses(fhir: httpx.Client, reference: str) -> set[tuple[str, str, str]]:
    """(interaction, outcome, entity) of every event that names a resource."""
    found, url = set(), "/AuditEvent"
    params = {"entity": reference, "_count": "20"}
    while url:
        page = fhir.get(url, params=params).json()
        for event in (entry["resource"] for entry in page.get("entry", ())):
            for entity in event.get("entity", ()):
                if "reference" in entity.get("what", {}):
                    code = event["subtype"][0]["code"]
                    found.add((code, event["outcome"], entity["what"]["reference"]))
        url, params = next((x["url"] for x in page["link"] if x["relation"] == "next"), ""), None
    return found


def _patient(record_number: str) -> dict:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:clinic", "value": record_number}],
        "name": [{"family": "Weidinger", "given": ["Ottilie"]}],
        "gender": "female",
        "birthDate": "1941-03-07",
    }


def _encounter(patient: _Stored) -> dict:
    return {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": patient.reference,
        "period": {"start": "2026-11-02T08:00:00Z"},
    }


def _pressure(patient: _Stored, encounter: _Stored, systolic: int) -> dict:
    loinc = "http://loinc.org"
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": loinc, "code": "85354-9"}]},
        "subject": patient.reference,
        "encounter": encounter.reference,
        "effectiveDateTime": "2026-11-02T08:10:00Z",
        "component": [
            {
                "code": {"coding": [{"system": loinc, "code": "8480-6"}]},
                "valueQuantity": {
                    "value": systolic,
                    "unit": "mmHg",
                    "system": "http://unitsofmeasure.org",
                    "code": "mm[Hg]",
                },
            }
        ],
    }


def _systolic(observation: dict) -> int:
    return observation["component"][0]["valueQuantity"]["value"]


def _prescription(patient: _Stored, encounter: _Stored) -> dict:
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    return {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": {"coding": [{"system": rxnorm, "code": "314076"}]},
        "subject": patient.reference,
        "encounter": encounter.reference,
        "authoredOn": "2026-11-02",
    }
