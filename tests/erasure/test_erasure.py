"""Nothing of an erased patient is in the opened files, nor in what others keep; what others are and
who saw what stays."""

from __future__ import annotations

import json
import shutil
from urllib.parse import unquote_plus

import pytest

from conformance.outcome import FhirError
from fhir_server.audit.event import Caller
from fhir_server.audit.verify import verify
from fhir_server.erasure import finishing, ridding
from fhir_server.interaction import Interaction
from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite import erasure, pages, strays
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.store import EVENTS, EVERYTHING, Page
from fhir_server.storage.vault import Vault
from salus.operator import patients, requests
from salus.problem import Problem
from smart_auth.grant import Grant, Scope
from tests.erasure.world import (
    ANN,
    BASIS,
    SECRETS,
    SEEN,
    SHARED,
    fill,
    opened,
    settings,
    told,
    traces,
)

GONE = (
    ("Patient", ANN),
    ("Observation", SEEN),
    ("Condition", "ann-deleted"),
    ("Encounter", "ann-encounter"),
    ("Binary", "ann-big"),
    ("Binary", "ann-letter"),
    ("DocumentReference", "ann-document"),
    ("Provenance", "p-only"),
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinic")
    told(folder, fill)
    return folder


@pytest.fixture
def clinic(filled, tmp_path):
    """A copy of a clinic, its server stopped."""
    shutil.copytree(filled, tmp_path / "clinic")
    return tmp_path / "clinic"


@pytest.fixture(scope="module")
def after(filled, tmp_path_factory):
    """A clinic from which Ann was erased, and what the command said."""
    folder = tmp_path_factory.mktemp("after") / "clinic"
    shutil.copytree(filled, folder)
    return folder, erased(folder)


def erased(folder):
    return told(folder, lambda clinic: clinic.erase())


def verified(folder):
    """What `verify` finds wrong."""
    provider = FileKeys(folder / "keys")
    vault = Vault.open(folder / "keys", provider)
    reading = Reading(folder / "data", page_key(folder / "data", provider), vault)
    try:
        report = verify(reading, (), {each.id for each in vault.destroyed()})
        return report.findings
    finally:
        reading.close()
        vault.close()


# --- the files -----------------------------------------------------------------------------------


def test_before_the_erasure_everything_is_found(clinic, tmp_path):
    """Else finding nothing would say nothing."""
    found = {each.split(" ")[0] for each in traces(clinic, tmp_path / "scratch")}
    hidden = {"ann-note-words", "Annlogin"}  # sealed, and in no index
    assert {each.split(" ")[0] for each in SECRETS} - found <= hidden | {"annlogin"}


def test_nothing_of_the_erased_is_in_the_opened_files(after, tmp_path):
    folder, done = after
    assert (done.finished, done.tidy) == (True, True)
    assert traces(folder, tmp_path / "scratch") == []
    left = {each.split(" ")[0] for each in traces(folder, tmp_path / "scratch", SHARED)}
    assert left == set(SHARED)
    assert not (folder / "data" / "salus.db-wal").exists()


def test_so_it_is_while_the_server_runs(clinic, tmp_path):
    async def story(asked):
        await asked.erase()
        return traces(clinic, tmp_path / "scratch")

    assert told(clinic, story) == []


@pytest.mark.parametrize("left_out", ["strays", "log", "veil", "others", "values"])
def test_each_step_is_needed(clinic, tmp_path, monkeypatch, left_out):
    """With any one left out, the search finds something."""
    nothing = strays.Strays(0, (), (), (), ())
    if left_out == "strays":
        monkeypatch.setattr(strays, "look", lambda conn: nothing)
    if left_out == "log":
        monkeypatch.setattr(pages, "rebuild", lambda conn: True)
    if left_out == "veil":
        monkeypatch.setattr(erasure, "_ONLY_EVENTS", "SELECT 1 FROM meta WHERE 0 AND ?1")
    if left_out == "others":

        async def idle(self):
            pass

        monkeypatch.setattr(ridding.Work, "all", idle)
    if left_out == "values":
        monkeypatch.setattr(strays, "look", lambda conn: nothing)
        monkeypatch.setattr(erasure, "_free_values", lambda *_: None)
        monkeypatch.setattr(erasure, "_free_texts", lambda *_: None)

    async def story(asked):
        await asked.erase()
        return traces(clinic, tmp_path / "scratch")

    assert told(clinic, story) != []


# --- what others keep ----------------------------------------------------------------------------


def test_nothing_that_can_still_be_opened_names_the_erased(after):
    folder, _ = after
    for name, body in told(folder, opened):
        for secret in SECRETS:
            assert secret.encode() not in body, name


def test_others_are_as_they_were_but_for_the_references(after):
    folder, done = after

    async def story(asked):
        for name in GONE:
            assert await asked.read(*name) == 404, name
        read = asked.read
        bob, cid = {"reference": "Patient/bob"}, {"reference": "Patient/cid"}
        group = await read("Group", "g")
        assert group["member"] == [{"entity": bob}, {"entity": cid}]
        assert "text" not in group
        assert group["name"] == "second"
        assert group["meta"]["versionId"] == "3"
        left = await read("Group", "left")
        assert left["meta"]["versionId"] == "2"
        assert (await read("Appointment", "a"))["participant"] == [
            {"actor": bob, "status": "accepted"}
        ]
        assert (await read("List", "l"))["entry"] == [
            {"item": {"reference": "Observation/bob-code-1"}}
        ]
        task = await read("Task", "t")
        assert "focus" not in task
        assert task["description"] == "see erased again"
        assert (await read("MessageHeader", "m"))["focus"] == [
            {"reference": "Observation/bob-code-1"}
        ]
        assert (await read("Provenance", "p-both"))["target"] == [bob]
        assert (await read("Account", "acc"))["subject"] == [bob]
        assert "recipient" not in await read("Communication", "by-identifier")
        assert "derivedFrom" not in await read("Observation", "required")
        assert "implicated" not in await read("DetectedIssue", "issue")
        absent = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
        (narrowed,) = (await read("Consent", "consent"))["provision"]["data"]
        assert narrowed["reference"] == {"extension": [{"url": absent, "valueCode": "masked"}]}
        assert await read("Patient", "bob") != 404
        assert len(await asked.found("Observation", patient="Patient/bob")) == 13
        assert await asked.found("Patient", name="Sharedname") == ["bob", "cid"]
        assert await asked.found("Patient", name="Zebedee") == []
        assert list(asked.server.store.check()) == []

    told(folder, story)
    assert (done.changed, done.removed, done.results) == (11, 2, 0)
    assert dict(done.types)["Observation"] == 13


def test_old_versions_of_others_are_redacted_in_place(after):
    folder, _ = after

    async def story(asked):
        result = await asked.ask("vread", "Group", "left", version="1")
        old = json.loads(result.body)
        assert [each["entity"]["reference"] for each in old["member"]] == [
            "Patient/bob",
            "Patient/cid",
        ]
        assert old["meta"]["security"][0]["code"] == "REDACTED"

    told(folder, story)


def test_the_log_verifies(after, clinic):
    folder, _ = after
    assert [str(each) for each in verified(clinic)] == []
    assert [str(each) for each in verified(folder)] == []


# --- who saw what --------------------------------------------------------------------------------


def test_the_audit_of_the_erased_is_found_by_name_and_says_no_more(after):
    folder, _ = after

    async def story(asked):
        found = await asked.found("AuditEvent", entity=f"Patient/{ANN}", _count="100")
        assert len(found) > 20
        assert await asked.found("AuditEvent", patient=f"Patient/{ANN}", _count="100")
        events = [await asked.read("AuditEvent", id) for id in found]
        (end,) = [e for e in events if e["type"]["code"] == "destroy"]
        assert end["outcomeDesc"] == BASIS
        assert end["entity"][0]["lifecycle"]["code"] == "14"
        text = json.dumps(events)
        assert not [secret for secret in SECRETS[:5] if secret in text]  # ids are references
        # Whoever asks for it now is told apart from before, and found too.
        assert await asked.read("Patient", ANN) == 404
        again = await asked.found("AuditEvent", entity=f"Patient/{ANN}", _count="100")
        assert len(again) > len(found)

    told(folder, story)


def test_what_was_asked_for_by_her_ids_is_forgotten(clinic):
    async def apart(asked):
        found = await asked.server.store.transaction(
            lambda tx: tx.find(EVENTS, EVERYTHING, (), Page(1000))
        )
        return [unquote_plus(each.apart[16:].decode()) for each in found.versions if each.apart]

    async def story(asked):
        before = await apart(asked)
        assert [each for each in before if "MRN-77-ANN" in each or "ann-encounter" in each]
        await asked.erase()
        after = await apart(asked)
        assert not [each for each in after if any(s in each for s in ("MRN-77", "ann-", ANN))]
        assert [each for each in after if "Bobson" in each]

    told(clinic, story)


def test_nothing_is_written_any_more_of_who_was_erased(clinic):
    """So nobody who takes the id gets to see who looked at whoever had it."""

    async def story(asked):
        await asked.erase()
        before = await asked.found("AuditEvent", entity=f"Patient/{ANN}", _count="100")
        with pytest.raises(FhirError) as refused:
            await asked.put("Patient", ANN, name=[{"family": "Newname"}])
        assert refused.value.status == 410
        found = await asked.found("AuditEvent", entity=f"Patient/{ANN}", _count="100")
        assert set(before) < set(found)
        await asked.put("Patient", "another", name=[{"family": "Newname"}])
        assert list(asked.server.store.check()) == []

    told(clinic, story)


# --- refusals ------------------------------------------------------------------------------------


def test_a_hold_forbids_it_until_it_is_released(clinic):
    async def story(asked):
        await patients.hold(asked.product, requests.HoldPatient(ANN, "claim 7"))
        assert (await asked.erase(dry=True)).held
        with pytest.raises(Problem, match="legal hold"):
            await asked.erase()
        assert await asked.read("Patient", ANN) != 404
        shown = await patients.holds(asked.product, requests.ListHolds())
        assert [each[:2] for each in shown.holds] == [(ANN, "claim 7")]
        await patients.hold(asked.product, requests.HoldPatient(ANN, None))
        with pytest.raises(Problem, match="no hold"):
            await patients.hold(asked.product, requests.HoldPatient(ANN, None))
        assert (await asked.erase()).finished

    told(clinic, story)


@pytest.mark.parametrize(
    "basis",
    ["", f"of {ANN}", "Mrs Zebedee asked", "born Oldmaiden", "record MRN-77-ANN", "x" * 501],
)
def test_a_basis_is_needed_that_names_nobody(clinic, basis):
    async def story(asked):
        with pytest.raises(Problem, match="basis"):
            await asked.erase(basis=basis)
        assert await asked.read("Patient", ANN) != 404

    told(clinic, story)


def test_a_dry_run_changes_nothing(clinic, after):
    async def story(asked):
        dry = await asked.erase(dry=True)
        assert await asked.read("Patient", ANN) != 404
        found = await asked.ask(
            "search-type",
            "AuditEvent",
            parameters=(("entity", f"Patient/{ANN}"), ("_sort", "-date")),
        )
        said = [each["resource"] for each in json.loads(found.body)["entry"]]
        told = [
            each.get("outcomeDesc") for each in said if each["subtype"][0]["code"] == "operation"
        ]
        assert told[:1] == ["dry run"]
        return dry

    dry, (_, done) = told(clinic, story), after
    assert (dry.dry, dry.types, dry.versions) == (True, done.types, done.versions)
    assert dry.final is None


def test_only_who_may_do_everything_purges(clinic):
    async def story(asked):
        grant = Grant("app", scopes=(Scope("system", "*", "cruds"),), reach=None)
        parameters = [
            {"name": "basis", "valueString": BASIS},
            {"name": "confirm", "valueString": ANN},
        ]

        async def purge(who, parts):
            body = {"resourceType": "Parameters", "parameter": parts}
            asking = Interaction("operation", "Patient", ANN, operation="purge", resource=body)
            with pytest.raises(FhirError) as refused:
                await asked.server.perform(asking, Caller(who, "local", "here"))
            return refused.value.status

        assert await purge(grant, parameters) == 403
        assert await purge(Grant.open(), parameters[:1]) == 400
        assert await purge(Grant.open(), parameters[1:]) == 400
        assert await purge(Grant.open(), [{"name": "other", "valueString": "x"}]) == 400
        assert await asked.read("Patient", ANN) != 404
        with pytest.raises(Problem, match="no such Patient"):
            await asked.erase("nobody")

    told(clinic, story)


# --- crashes and copies --------------------------------------------------------------------------


class Crash(Exception):
    pass


@pytest.mark.parametrize("where", ["destroy", "all", "files", "_close", "tidy"])
def test_what_was_interrupted_is_finished_at_the_next_start(clinic, tmp_path, monkeypatch, where):
    async def crash(*_, **__):
        raise Crash

    def crashes(*_, **__):
        raise Crash

    async def story(asked):
        store = asked.server.store
        place, stop = {
            "destroy": (Vault, crashes),
            "all": (ridding.Work, crash),
            "files": (ridding.Work, crash),
            "_close": (finishing.Finisher, crash),
            "tidy": (type(store), crash),
        }[where]
        with monkeypatch.context() as patch:
            patch.setattr(place, where, stop)
            with pytest.raises(Crash):
                await asked.erase()
            asked.product.ending.finisher.finish_all = crash  # nobody else tries

    told(clinic, story)

    async def again(asked):
        assert await asked.read("Patient", ANN) == 404
        assert await asked.read("Group", "g") != 404

    told(clinic, again)
    assert traces(clinic, tmp_path / "scratch") == []
    assert verified(clinic) == ()


def test_a_copy_from_before_shows_nothing_with_the_keys_of_today(filled, after, tmp_path):
    folder = tmp_path / "restored"
    shutil.copytree(filled / "data", folder / "data")
    shutil.copytree(after[0] / "keys", folder / "keys")

    async def story(asked):
        for name in GONE[:5]:
            assert await asked.read(*name) == 404, name
        assert await asked.found("Patient", name="Zebedee") == []
        assert await asked.found("Observation", patient=f"Patient/{ANN}") == []
        assert len(await asked.found("Observation", patient="Patient/bob")) == 13
        assert list(asked.server.store.check()) == []
        group = await asked.read("Group", "g")
        assert [each["entity"]["reference"] for each in group["member"]] == [
            "Patient/bob",
            "Patient/cid",
        ]
        assert await asked.found("AuditEvent", entity=f"Patient/{ANN}")

    told(folder, story)
    sealed = {"MRN-77-ANN", "ann-letter"}  # in what nobody owns: by an identifier, and by its id
    found = {each.split(" ")[0] for each in traces(folder, tmp_path / "scratch")}
    assert found <= sealed
    assert verified(folder) == ()


def test_accounts_and_grants_of_the_erased_end(after):
    folder, _ = after

    async def story(asked):
        found = await opened(asked)
        assert [name for name, _ in found if name.startswith("smart.")] == []

    told(folder, story)
    assert settings(folder).data.exists()
