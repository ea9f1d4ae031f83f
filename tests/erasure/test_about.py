"""What is about the erased goes though others take part in it, and what is others' stays: their
doctors and files, whatever identifiers and addresses the erased claimed."""

from __future__ import annotations

import base64
import json
import shutil

import pytest

from conformance.outcome import FhirError
from fhir_server.audit.verify import verify
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.vault import Vault
from tests.erasure.world import Clinic, coded, person, ref, told

KID, BOB, CID = ref("Patient/kid"), ref("Patient/bob"), ref("Patient/cid")
NPI = {
    "identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1234567890"},
    "display": "Dr House",
}
SAYS = {"status": "final", "code": coded("x"), "valueString": "Kiddo Kidson is positive"}
ABOUT = ("Observation/temp", "Communication/comm", "Observation/ended", "Coverage/cover")


async def family(clinic: Clinic) -> None:
    put = clinic.put
    await put("Patient", "bob", **person("Bobson", "Robert", "MRN-BOB", "+44-bob"))
    await put("Patient", "kid", **person("Kidson", "Kiddo", "MRN-KID", "+44-kid"))
    for _ in range(2):
        await put("Observation", "temp", **SAYS, subject=KID, performer=[BOB])
    said = [{"contentString": "Kiddo Kidson has a fever"}]
    await put("Communication", "comm", status="completed", subject=KID, sender=BOB, payload=said)
    await put("Coverage", "cover", status="active", beneficiary=KID, subscriber=BOB, payor=[BOB])
    await put("Observation", "ended", **SAYS, subject=KID, performer=[BOB])
    await clinic.ask("delete", "Observation", "ended")
    # One that was put under the wrong patient, and was mended.
    await put("Observation", "moved", **SAYS, subject=KID, performer=[BOB])
    await put("Observation", "moved", status="final", code=coded("x"), subject=BOB)
    entry = [{"item": ref("Observation/temp")}, {"item": ref("Observation/moved")}]
    await put("List", "bobs", status="current", mode="working", subject=BOB, entry=entry)
    told = [ref("Observation/ended"), ref("Observation/moved")]
    await put("Task", "see", status="requested", intent="order", basedOn=told, **{"for": BOB})


async def is_rid(clinic: Clinic) -> None:
    """Nothing of the kid is left, and what is bob's is whole."""
    for name in ABOUT:
        assert await clinic.read(*name.split("/")) == 404, name
        with pytest.raises(FhirError) as refused:
            await clinic.ask("vread", *name.split("/"), version="1")
        assert refused.value.status == 404
    moved = await clinic.read("Observation", "moved")
    assert (moved["meta"]["versionId"], moved["subject"]) == ("2", BOB)
    first = json.loads((await clinic.ask("vread", "Observation", "moved", version="1")).body)
    assert first.keys() == {"resourceType", "id", "meta"}
    assert [each["code"] for each in first["meta"]["security"]] == ["REDACTED"]
    assert (await clinic.read("List", "bobs"))["entry"] == [{"item": ref("Observation/moved")}]
    assert (await clinic.read("Task", "see"))["basedOn"] == [ref("Observation/moved")]
    assert await clinic.found("Observation", performer="Patient/bob") == []
    assert list(clinic.server.store.check()) == []

    async def work(tx):
        return b"".join([each.body for each in await tx.history(None, None, 1_000)])

    assert b"Kid" not in await clinic.server.store.transaction(work)


def test_what_is_about_the_erased_goes_with_all_its_versions(tmp_path):
    async def story(clinic: Clinic):
        await family(clinic)
        dry, done = await clinic.erase("kid", dry=True), await clinic.erase("kid")
        types = {"Observation": 1, "Communication": 1, "Coverage": 1, "Patient": 1}
        assert dict(dry.types) == dict(done.types) == types
        await is_rid(clinic)

    told(tmp_path, story)
    assert verified(tmp_path) == []


def test_a_copy_from_before_is_rid_of_it_at_the_start(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    told(before, family)
    shutil.copytree(before, after)
    told(after, lambda clinic: clinic.erase("kid"))
    shutil.rmtree(before / "keys")
    shutil.copytree(after / "keys", before / "keys")
    told(before, is_rid)
    assert verified(before) == []


def verified(folder):
    provider = FileKeys(folder / "keys")
    vault = Vault.open(folder / "keys", provider)
    reading = Reading(folder / "data", page_key(folder / "data", provider), vault)
    try:
        found = verify(reading, (), {each.id for each in vault.destroyed()}).findings
        return [str(each) for each in found]
    finally:
        reading.close()
        vault.close()


async def claims(clinic: Clinic, *identifiers) -> None:
    await clinic.put("Patient", "bob", **person("Bobson", "Robert", "MRN-BOB", "+44-bob"))
    await clinic.put(
        "Patient",
        "evil",
        name=[{"family": "Evil"}],
        identifier=[*identifiers, {"system": "urn:mrn", "value": "EVIL"}],
    )


def test_whoever_claims_the_identifiers_of_others_takes_nothing_of_theirs_along(tmp_path):
    async def story(clinic: Clinic):
        mrn = {"system": "urn:mrn", "value": "MRN-BOB"}
        await claims(clinic, NPI["identifier"], mrn, {"value": "1"})
        put, patient = clinic.put, {"type": "Patient", "identifier": mrn}
        await put("Observation", "o", **SAYS, subject=BOB, performer=[NPI])
        await put("Observation", "p", **SAYS, subject=patient)
        await put(
            "Consent",
            "c",
            status="active",
            scope=coded("s"),
            category=[coded("c")],
            patient=BOB,
            policyRule=coded("p"),
            performer=[{"identifier": {"value": "1"}}],
            provision={"actor": [{"role": coded("r"), "reference": NPI}]},
        )
        names = [("Observation", "o"), ("Observation", "p"), ("Consent", "c")]
        before = [await clinic.read(*each) for each in names]
        done = await clinic.erase("evil")
        assert (done.changed, done.removed, done.redacted) == (0, 0, 0)
        assert [await clinic.read(*each) for each in names] == before
        # Of nobody else any more, it is bob's.
        done = await clinic.erase("bob")
        assert "subject" not in await clinic.read("Observation", "p")

    told(tmp_path, story)


def test_only_files_that_nobody_else_ever_named_go(tmp_path):
    async def story(clinic: Clinic):
        await claims(clinic)
        await clinic.put("Practitioner", "doc")
        data = {"contentType": "text/plain", "data": base64.b64encode(b"x").decode()}
        await clinic.put("Binary", "alone", **data)
        await clinic.put("Binary", "once", **data)
        await clinic.put("Binary", "doctors", **data, securityContext=ref("Practitioner/doc"))
        await clinic.put("Binary", "was", **data, securityContext=BOB)
        await clinic.put("Binary", "was", **data)

        async def document(id, who, *files):
            content = [{"attachment": {"url": f"Binary/{each}"}} for each in files]
            await clinic.put(
                "DocumentReference", id, status="current", subject=who, content=content
            )

        await document("bobs", BOB, "once")
        await document("bobs", BOB, "other")
        await document("evils", ref("Patient/evil"), "alone", "once", "doctors", "was")
        dry = await clinic.erase("evil", dry=True)
        assert dry.gone == (("Binary", 1),)
        assert (await clinic.erase("evil")).removed == 1
        assert await clinic.read("Binary", "alone") == 404
        for each in ("once", "doctors", "was"):
            assert await clinic.read("Binary", each) != 404, each

    told(tmp_path, story)


def test_a_dry_run_tells_what_others_would_lose(tmp_path):
    async def story(clinic: Clinic):
        await family(clinic)
        group = {"type": "person", "actual": True}
        members = [{"entity": each} for each in (KID, BOB)]
        for _ in range(2):
            await clinic.put("Group", "g", **group, member=members)
        patient = {"resourceType": "Patient", "id": "kid"}
        await clinic.put("Bundle", "b", type="collection", entry=[{"resource": patient}])
        dry = await clinic.erase("kid", dry=True)
        assert dry.foreseen
        assert dry.cut == (("Group", 1), ("List", 1), ("Task", 1))
        assert dry.gone == (("Bundle", 1), ("Observation", 1))
        done = await clinic.erase("kid")
        assert (done.changed, done.removed, done.redacted) == (3, 2, dry.redacted)

    told(tmp_path, story)
