"""What an attacker tried on erasures, holds and the tokens of the erased does not work any more."""

from __future__ import annotations

import asyncio
import json
import logging
from io import StringIO

import pytest
from rich.console import Console

from conformance.outcome import FhirError
from fhir_server.erasure import retention
from fhir_server.erasure.rules import Rule
from fhir_server.log.tombstone import Tombstone, parse
from salus.doctor import examine
from salus.operator import patients, requests, users
from salus.problem import Problem
from smart_auth import grants
from smart_auth.errors import OAuthError
from smart_auth.model import ACCOUNTS, CLIENTS, Client, LaunchContext
from tests.erasure.world import ANN, Clinic, coded, person, ref, settings, told

DAY = 86_400_000_000


async def small(clinic: Clinic) -> None:
    """Three patients, and what they share."""
    await clinic.put("Patient", ANN, **person("Zebedee", "Annabella", "MRN-77-ANN", "+44-ann"))
    for id in ("bob", "cid"):
        await clinic.put("Patient", id, **person(f"{id}son", id, f"MRN-{id}", f"+44-{id}"))
    await observe(clinic, "of-ann", ANN)


async def observe(clinic: Clinic, id, who, *others):
    more = {"performer": [ref(f"Patient/{each}") for each in others]} if others else {}
    await clinic.put(
        "Observation", id, status="final", code=coded("x"), subject=ref(f"Patient/{who}"), **more
    )


async def hold(clinic: Clinic, id, reason="claim"):
    await patients.hold(clinic.product, requests.HoldPatient(id, reason))


async def vread(clinic: Clinic, type, id, version):
    return json.loads((await clinic.ask("vread", type, id, version=version)).body)


async def damage(clinic: Clinic, sql, *given):
    async def work(tx):
        tx._reach.conn.execute(sql, given)

    await clinic.server.store.transaction(work, write=True)


async def settled(clinic: Clinic):
    """Once what was released is seen to."""
    for _ in range(200):
        if not await waiting(clinic):
            return
        await asyncio.sleep(0.02)


async def waiting(clinic: Clinic):
    return await clinic.server.store.transaction(patients.waiting)


# --- holds ---------------------------------------------------------------------------------------


def test_what_was_moved_from_a_patient_on_hold_goes_with_nobody(tmp_path):
    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "moved", "bob")
        await hold(clinic, "bob")
        await observe(clinic, "moved", "cid")
        assert (await clinic.erase("cid", dry=True)).held
        with pytest.raises(Problem, match="legal hold stands in the way") as refused:
            await clinic.erase("cid")
        assert "bob" not in str(refused.value)
        assert (await vread(clinic, "Observation", "moved", "1"))["subject"] == ref("Patient/bob")
        assert await clinic.read("Patient", "cid") != 404
        # Nor by its age, though it is somebody else's by now.
        later = clinic.server.core.clock() + 11 * DAY
        done = await retention.apply(clinic.server.store, [Rule("Observation", 10)], later)
        assert done == [("Observation", 1, 1)]  # of-ann went
        assert await clinic.read("Observation", "moved") != 404
        await hold(clinic, "bob", None)
        assert (await clinic.erase("cid")).finished

    told(tmp_path, story)


def test_a_hold_that_comes_while_resources_end_by_age_is_kept(tmp_path, monkeypatch):
    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "of-bob", "bob")
        store, transaction = clinic.server.store, clinic.server.store.transaction

        async def interrupted(work, write=False):
            if write:
                monkeypatch.setattr(store, "transaction", transaction)
                await hold(clinic, "bob")
            return await transaction(work, write=write)

        monkeypatch.setattr(store, "transaction", interrupted)
        later = clinic.server.core.clock() + 11 * DAY
        done = await retention.apply(store, [Rule("Observation", 10)], later)
        assert done == [("Observation", 1, 1)]
        assert await clinic.read("Observation", "of-bob") != 404

    told(tmp_path, story)


def test_an_erasure_leaves_what_is_on_hold_as_it_is_until_that_ends(tmp_path):
    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "held", "bob", ANN)
        await observe(clinic, "free", "cid", ANN)
        await hold(clinic, "bob")
        done = await clinic.erase()
        assert (done.finished, done.left, done.changed) == (True, 1, 1)
        assert any("legal hold" in each for each in done.remains)
        assert not any("bob" in each for each in done.remains)
        held = await clinic.read("Observation", "held")
        assert (held["meta"]["versionId"], held["performer"]) == ("1", [ref(f"Patient/{ANN}")])
        assert "performer" not in await clinic.read("Observation", "free")
        (left,) = await waiting(clinic)
        assert left.left == [("Observation", "held")]
        again = await clinic.product.ending.finisher.finish(left)
        assert (again.changed, again.left) == (1, 1)  # whoever looks first, all that was done
        assert await clinic.product.ending.finisher.finish_all() == []  # nothing can be done yet
        await hold(clinic, "bob", None)
        await settled(clinic)
        assert "performer" not in await clinic.read("Observation", "held")
        old = await vread(clinic, "Observation", "held", "1")
        assert "performer" not in old
        assert await waiting(clinic) == []

    told(tmp_path, story)


# --- labels --------------------------------------------------------------------------------------


def test_what_is_redacted_again_says_so_once(tmp_path):
    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "shared", "bob", ANN, "cid")
        await observe(clinic, "shared", "bob")
        await clinic.erase()
        await clinic.erase("cid")
        old = await vread(clinic, "Observation", "shared", "1")
        assert [each["code"] for each in old["meta"]["security"]] == ["REDACTED"]
        notices = await clinic.server.store.transaction(lambda tx: tx.notices())
        kinds = [stone.kind for each in notices if (stone := parse(each.content))]
        assert kinds == ["erased", "redacted"] * 2

    told(tmp_path, story)


# --- damage --------------------------------------------------------------------------------------


def test_a_damaged_record_keeps_no_erasure_from_ending(tmp_path, caplog):
    """Neither one of the erased nor of others, nor what an event has apart."""

    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "before", "bob", ANN)
        await observe(clinic, "broken", "bob", ANN)
        await observe(clinic, "after", "bob", ANN)
        flip = "UPDATE resource SET body = CAST(body || x'00' AS BLOB) WHERE id = ?"
        for id in ("broken", "of-ann"):
            await damage(clinic, flip, id)
        more = {"resourceType": "Patient", "name": [{"family": "Other"}]}
        await clinic.ask("create", "Patient", once="key", resource=more)
        await damage(
            clinic, "UPDATE kept SET value = CAST(value || x'00' AS BLOB) WHERE space = 'once'"
        )
        await clinic.found("Patient", name="nobody")
        await damage(
            clinic,
            "UPDATE event SET apart = CAST(apart || x'00' AS BLOB) WHERE n = (SELECT max(n) FROM event"
            " WHERE apart IS NOT NULL)",
        )
        done = await clinic.erase()
        assert (done.finished, done.unread, done.changed, done.results) == (True, 2, 2, 1)
        assert any("2 records that are damaged" in each for each in done.remains)
        assert await clinic.read("Observation", "of-ann") == 404
        for id in ("before", "after"):
            assert "performer" not in await clinic.read("Observation", id)
        assert await waiting(clinic) == []

    with caplog.at_level(logging.WARNING, "salus.erasure"):
        told(tmp_path, story)
    assert "2 records that are damaged" in caplog.text


def test_the_doctor_tells_of_an_erasure_that_is_not_finished(tmp_path, monkeypatch):
    async def story(clinic: Clinic):
        await small(clinic)
        assert (await clinic.erase("cid")).finished

        async def wrong(_):
            raise TypeError

        monkeypatch.setattr(clinic.product.ending.finisher, "finish", wrong)
        with pytest.raises(TypeError):
            await clinic.erase()

    def told_by_doctor():
        said = StringIO()
        examine(settings(tmp_path), False, Console(file=said, width=200))
        return said.getvalue().count("is not finished")

    told(tmp_path, story)
    assert told_by_doctor() == 1
    told(tmp_path, waiting)
    assert told_by_doctor() == 0


def test_what_nobody_foresaw_is_told_and_tried_again(tmp_path, caplog, monkeypatch):
    async def story(clinic: Clinic):
        await small(clinic)
        ending, tried = clinic.product.ending, []

        async def wrong():
            tried.append(1)
            raise TypeError("Zebedee")

        monkeypatch.setattr(ending.finisher, "finish_all", wrong)
        for _ in range(2):
            clinic.server.core.beyond.begun.set()
            await asyncio.sleep(0.05)
        assert len(tried) == 2
        with monkeypatch.context() as patch:
            patch.setattr("salus.ending._FIRST_SECONDS", 0)
            patch.setattr("salus.ending._DAY_SECONDS", 0.01)
            patch.setattr(ending, "daily", wrong)
            task = asyncio.create_task(ending.run())
            await asyncio.sleep(0.1)
            assert not task.done()
            task.cancel()
        assert len(tried) > 3
        await ending.begin()  # others are served all the same

    with caplog.at_level(logging.ERROR, "salus.erasure"):
        told(tmp_path, story)
    assert "TypeError" in caplog.text
    assert "Zebedee" not in caplog.text


# --- tokens --------------------------------------------------------------------------------------


def test_no_token_of_the_erased_is_good_once_the_erasure_is(tmp_path):
    """Not even one that was asked about while it was being committed."""

    async def story(clinic: Clinic):
        await small(clinic)
        product = clinic.product
        app = Client(id="app", name="App", profile="smart-2", redirect_uris=("https://a/b",))
        await clinic.server.store.transaction(lambda tx: CLIENTS.write(tx, app.id, app), write=True)
        added = requests.AddUser(name="login", who=f"Patient/{ANN}", display="Login")
        await users.add(product, added)
        account = await clinic.server.store.transaction(lambda tx: ACCOUNTS.read(tx, "login"))
        context = LaunchContext(patient=ANN)
        token = await product.tokens.issue(app, "patient/*.rs", account=account, context=context)
        assert (await product.tokens.grant(token)).client == "app"
        over = False

        async def ask():
            while not over:
                try:
                    await product.tokens.grant(token)
                except OAuthError:
                    return
                await asyncio.sleep(0)

        asking = asyncio.create_task(ask())
        await clinic.erase()
        over = True
        await asking
        with pytest.raises(OAuthError):
            await product.tokens.grant(token)
        held = await clinic.server.store.transaction(lambda tx: grants.of_client(tx, "app"))
        assert not held

    told(tmp_path, story)


# --- what comes late -----------------------------------------------------------------------------


def test_what_comes_late_about_the_erased_is_refused(tmp_path):
    """From the removal on: neither theirs, nor what is about several and names them."""

    async def story(clinic: Clinic):
        await small(clinic)
        answers: list[object] = []

        async def write():
            for n in range(100):
                try:
                    await observe(clinic, f"late{n}", ANN, *(["bob"] if n % 2 else []))
                    answers.append(n)
                except FhirError as error:
                    answers.append(error.status)
                    if answers[-4:] == [410] * 4:
                        return
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.05)
        await clinic.erase()
        await writing
        assert answers[-4:] == [410] * 4
        taken = [n for n in answers if n != 410]
        assert answers == [*taken, *[410] * (len(answers) - len(taken))]
        for n in taken:
            if n % 2 == 0:
                assert await clinic.read("Observation", f"late{n}") == 404
        store = clinic.server.store
        assert not [of for of, _ in await store.transaction(lambda tx: tx.sealers()) if ANN in of]
        await observe(clinic, "fair", "bob", "cid")
        # After a restart, too.

    async def again(clinic: Clinic):
        with pytest.raises(FhirError) as refused:
            await observe(clinic, "late", "bob", ANN)
        assert refused.value.status == 410
        assert ANN not in str(refused.value)

    told(tmp_path, story)
    told(tmp_path, again)


# --- keys ----------------------------------------------------------------------------------------


def test_keys_are_destroyed_though_their_notes_are_lost(tmp_path):
    async def story(clinic: Clinic):
        await small(clinic)
        await observe(clinic, "other", "bob")
        await observe(clinic, "other", ANN)
        conn = clinic.server.store._writer

        def key(sql, *given):
            return conn.execute(sql, given).get

        body = "SELECT substr(body, 1, 8) FROM resource WHERE id = ?"
        hers, bobs = key(body, "of-ann"), key(body, "bob")
        await damage(clinic, "DELETE FROM sealing")
        await damage(
            clinic, "INSERT INTO sealing (owner, id, current) VALUES ('Patient/bob', ?, 1)", bobs
        )
        assert hers != bobs
        assert (await clinic.erase()).finished
        vault = clinic.server.store._shared.sealing.keys
        assert [each.id for each in vault.destroyed()] == [hers]
        assert await clinic.read("Patient", "bob") != 404

    told(tmp_path, story)


@pytest.mark.parametrize("leaf", [10**6, None])
def test_no_row_that_is_no_notice_of_the_log_destroys_a_key(tmp_path, leaf, caplog):
    """Nor a notice, though the log has it, that names keys in use (`leaf` None)."""

    async def story(clinic: Clinic):
        await small(clinic)

        async def work(tx):
            keys = [id for _, id in await tx.sealers()]
            content = Tombstone.of("erased", keys, (), 1, "x").encode()
            if leaf is None:
                await tx.note(content)
            else:
                sql = "INSERT INTO notice (leaf, content) VALUES (?, ?)"
                tx._reach.conn.execute(sql, (leaf, content))

        await clinic.server.store.transaction(work, write=True)

    async def again(clinic: Clinic):
        assert await clinic.read("Patient", "bob") != 404
        assert clinic.server.store._shared.sealing.keys.destroyed() == []

    told(tmp_path, story)
    with caplog.at_level(logging.ERROR, "salus.erasure"):
        told(tmp_path, again)
    assert "salus audit verify" in caplog.text


# --- what was asked for --------------------------------------------------------------------------


def test_what_was_asked_for_by_name_is_forgotten_whomever_it_found(tmp_path):
    async def story(clinic: Clinic):
        await small(clinic)
        asked = (
            {"name": "Zebedee", "gender": "male"},
            {"name": "ZEBEDEE,other"},
            {"identifier": "MRN-77-ANN", "birthdate": "1999"},
            {"phone": "+44-ann", "gender": "male"},
            {"name": "Bobby", "family": "nobody"},
        )
        for each in asked:
            await clinic.found("Patient", **each)

        async def kept():
            found = await clinic.server.store.transaction(lambda tx: tx.aparts(0, 1000))
            return [apart[16:].decode() for _, apart in found if apart]

        before = await kept()
        assert len([each for each in before if each.startswith("Patient?")]) == len(asked)
        await clinic.erase()
        after = [each for each in await kept() if each.startswith("Patient?")]
        assert after == ["Patient?name=Bobby&family=nobody"]

    told(tmp_path, story)
