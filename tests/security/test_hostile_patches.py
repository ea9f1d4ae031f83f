"""The paths of a patch cannot hold the server, which lets nobody else write meanwhile."""

from time import monotonic

from tests.security.clinic import EVERYBODY

WIDE = r"[\u0001-\ufffe" + "\U0010ffff]"  # with an escape of FHIRPath


def patch(*paths):
    parts = [
        [{"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": each}]
        for each in paths
    ]
    operations = [{"name": "operation", "part": each} for each in parts]
    return {"resourceType": "Parameters", "parameter": operations}


def sent(clinic, *paths):
    clinic.put({"resourceType": "Patient", "id": "x", "name": [{"family": "a" * 5_000}]})
    kind = (("content-type", "application/fhir+json"),)
    begun = monotonic()
    answer = clinic.ask(EVERYBODY, "PATCH", "Patient/x", patch(*paths), kind)
    assert monotonic() - begun < 2
    return answer


def matching(source, count):
    return [f"Patient.name.where(family.matches('{source}{n:03}'))" for n in range(count)]


def test_the_regular_expressions_of_a_patch_are_refused_where_they_take_long(clinic):
    for source in ("(?i)" + WIDE * 150, WIDE * 150):
        assert sent(clinic, *matching(source, 20)).status == 400
    assert sent(clinic, *matching("(?i)[a-z]{3}", 20)).status == 200


def test_a_patch_of_many_operations_ends_with_its_time(clinic, monkeypatch):
    monkeypatch.setattr("fhir_server.patching.fhirpath_patch._SECONDS", 0.0)
    answer = sent(clinic, "Patient.name.where(family = 'b')")
    assert (answer.status, answer.code) == (413, "too-costly")
    monkeypatch.undo()
    assert sent(clinic, "Patient.name.where(family = 'b')").status == 200
