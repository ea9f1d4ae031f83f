"""Random writes by random grants: what is written, and what is refused with which status, is what
plain.py allows; then each rule of writing is broken on purpose, and is seen to be.

https://hl7.org/fhir/R4/http.html#update
"""

from __future__ import annotations

from random import Random

import pytest

from fhir_server import access, changes, conditional, handlers, owners, sight
from fhir_server.storage.store import EVERYTHING
from smart_auth.grant import Grant, Scope
from tests.security import chance
from tests.security.chance import PATIENTS, TYPES, Hospital
from tests.security.clinic import EVERYBODY, Clinic, opened
from tests.security.plain import (
    WHOSE,
    Name,
    Resource,
    _refs,
    left_of,
    limited_to,
    may,
    scopes_of,
    speaks_of,
)

SEEDS = range(10)
WRITES = 60  # in each hospital
MAKERS = [maker for maker in chance._MAKERS if maker is not chance._group]

# Every patient that would have a resource in its compartment, for R4 or us.
NAMED = {
    **WHOSE,
    "Patient": _refs("link.other"),
    "List": _refs("subject", "source"),
    "Provenance": _refs("target"),
    "Binary": _refs("securityContext"),
}


@pytest.fixture
def hospital(runner, tmp_path):
    """A server and what is in it, made anew."""
    made: list[Clinic] = []

    def of(seed: int) -> tuple[Clinic, Hospital]:
        clinic = Clinic(runner.run(opened(tmp_path / str(seed))), runner)
        told = chance.hospital(Random(seed))
        clinic.ask(EVERYBODY, "POST", "", told.batch())
        made.append(clinic)
        return clinic, told

    yield of
    for clinic in made:
        runner.run(clinic.store.close())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_caller_changes_exactly_what_is_allowed(hospital, seed):
    write_and_compare(*hospital(seed), seed)


def write_and_compare(clinic: Clinic, hospital: Hospital, seed: int) -> None:
    random = Random(-seed - 1)
    for _ in range(WRITES):
        caller = _writer(random)
        random.choice([_put, _put, _patch, _delete, _create, _conditional, _conditional])(
            random, clinic, hospital, caller
        )


def _writer(random: Random) -> Grant:
    caller = chance.grant(random)
    context = random.choice(["patient", "patient", "user", "system"])
    kinds = [("*", "cruds"), ("Observation", "cruds"), ("Observation", "us"), ("Observation", "ds")]
    kinds += [(random.choice(TYPES), "cruds"), ("Observation", "cu"), ("Observation", "rs")]
    added = [Scope(context, *each) for each in random.sample(kinds, 2)]  # type: ignore[arg-type]
    scopes = (*caller.scopes[:3], *added)
    return Grant(
        "an app",
        id=caller.id,
        scopes=scopes,
        patient=caller.patient,
        reach=caller.reach,
    )


# --- what is allowed -----------------------------------------------------------------------------


def _writes_all(grant: Grant, type: str, letter: str) -> bool:
    """Whether nothing limits a letter on a type."""
    return limited_to(grant) is None and any(
        scope.type in (type, "*") and letter in scope.letters and not scope.query
        for scope in scopes_of(grant)
    )


def _reaches(grant: Grant, letter: str, name: Name, hospital: Hospital) -> bool:
    """Whether there is a resource that a write with this letter may replace."""
    old = hospital.now.get(name)
    if old is None or not may(grant, letter, old, hospital.now):
        return False
    return left_of(grant, old, hospital.now) == old


def _names_others(grant: Grant, resource: Resource) -> bool:
    """Whether a resource is another patient's as well."""
    patients = limited_to(grant)
    named = NAMED.get(resource["resourceType"], lambda _: set())(resource)
    return patients is not None and bool(named - patients)


def _may_make(grant: Grant, letter: str, made: Resource, hospital: Hospital) -> bool:
    type = made["resourceType"]
    if _writes_all(grant, type, letter):
        return True
    if not may(grant, letter, made, hospital.now):
        return False
    return not _names_others(grant, made) and left_of(grant, made, hospital.now) == made


def _status_of_put(grant: Grant, made: Resource, hospital: Hospital) -> set[int]:
    name = (made["resourceType"], made["id"])
    if not speaks_of(grant, name[0], "u"):
        return {403}
    if not _writes_all(grant, name[0], "u") and not _reaches(grant, "u", name, hospital):
        return {404}
    if name in hospital.now and _names_others(grant, hospital.now[name]):
        return {403}
    return {200, 201} if _may_make(grant, "u", made, hospital) else {403}


# --- what is asked -------------------------------------------------------------------------------


def _put(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    made = _resource(random)
    allowed = _status_of_put(caller, made, hospital)
    url = f"{made['resourceType']}/{made['id']}"
    if random.random() < 0.2:
        entry = {"request": {"method": "PUT", "url": url}, "resource": made}
        kind = random.choice(["batch", "transaction"])
        bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
        answer = clinic.ask(caller, "POST", "", bundle)
        told = answer.json.get("entry")
        status = int(told[0]["response"]["status"][:3]) if told else answer.status
    else:
        status = clinic.ask(caller, "PUT", url, made).status
    assert status in allowed, (caller, made)
    if status < 300:
        hospital.write(made)
    _same(clinic, hospital, (made["resourceType"], made["id"]))


def _patch(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    """Move an Observation to another patient, or tag it."""
    name = ("Observation", f"o{random.randrange(8)}")
    old = hospital.now.get(name)
    if old is None:
        return
    whose = {"reference": random.choice(PATIENTS)}
    made = {**old, "subject": whose}
    status = clinic.ask(
        caller, "PATCH", "/".join(name), [{"op": "replace", "path": "/subject", "value": whose}]
    ).status
    if not speaks_of(caller, "Observation", "r"):  # how it ends would tell what is there
        assert status == 403, (caller, made)
        return
    assert status in _status_of_put(caller, made, hospital), (caller, made)
    if status < 300:
        hospital.write(made)
    _same(clinic, hospital, name)


def _delete(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    name = random.choice(hospital.told).name
    status = clinic.ask(caller, "DELETE", "/".join(name)).status
    if not speaks_of(caller, name[0], "d"):
        assert status == 403, (caller, name)
    elif name not in hospital.now:
        assert status in ({204} if _writes_all(caller, name[0], "d") else {204, 404})
    elif _reaches(caller, "d", name, hospital) and _names_others(caller, hospital.now[name]):
        assert status == 403, (caller, name)
    elif _writes_all(caller, name[0], "d") or _reaches(caller, "d", name, hospital):
        assert status == 204, (caller, name)
        hospital.delete(name)
    else:
        assert status == 404, (caller, name)
    _same(clinic, hospital, name)


def _create(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    made = _resource(random)
    answer = clinic.ask(caller, "POST", made["resourceType"], made)
    if answer.status == 201:
        id = answer.header("location").split("/")[-3]  # type: ignore[union-attr]
        made = {**made, "id": id}
        hospital.write(made)
    else:
        made = {**made, "id": "some-new-id"}
    allowed = speaks_of(caller, made["resourceType"], "c") and _may_make(
        caller, "c", made, hospital
    )
    assert answer.status == (201 if allowed else 403), (caller, made)


def _conditional(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    """Delete, or change, what has the tag and an id: only what may be found and reached."""
    name = ("Observation", f"o{random.randrange(8)}")
    if name not in hospital.now and random.random() < 0.8:
        return
    url = f"Observation?_id={name[1]}"
    old = hospital.now.get(name)
    found = old is not None and may(caller, "s", old, hospital.now)
    method, letter = random.choice([("DELETE", "d"), ("PUT", "u"), ("PATCH", "u")])
    needed = [letter, "s", "r"] if method == "PATCH" else [letter, "s"]
    spoken = all(speaks_of(caller, "Observation", each) for each in needed)
    reached = found and _reaches(caller, letter, name, hospital)
    made = {**(old or chance._observation(random, int(name[1][1:]))), "language": "en"}
    body = {"DELETE": None, "PUT": made, "PATCH": [_ENGLISH]}[method]
    status = clinic.ask(caller, method, url, body).status
    if not spoken or (reached and _names_others(caller, hospital.now[name])):
        assert status == 403, (caller, url)
    elif method == "DELETE":
        assert status == 204
        if reached:
            hospital.delete(name)
    elif method == "PATCH" and not reached:
        assert status == 404, (caller, url)
    elif reached:
        assert status == (200 if _may_make(caller, "u", made, hospital) else 403), (caller, url)
    elif not _writes_all(caller, "Observation", "u"):
        assert status == 404, (caller, url)
    else:
        assert status in (201, 409)
    if status in (200, 201):
        hospital.write(made)
    _same(clinic, hospital, name)


_ENGLISH = {"op": "add", "path": "/language", "value": "en"}


def _resource(random: Random) -> Resource:
    made = random.choice(MAKERS)(random, random.randrange(9))
    if random.random() < 0.1:
        made = chance._person(random, random.choice([*PATIENTS, "Practitioner/d0", "Patient/p9"]))
    return made


def _same(clinic: Clinic, hospital: Hospital, name: Name) -> None:
    """What is stored is what was allowed to be."""
    answer = clinic.ask(EVERYBODY, "GET", "/".join(name), headers=_JSON)
    there = hospital.now.get(name)
    assert (answer.status == 200) == (there is not None), name
    if there:
        stored = {**answer.json}
        tags = stored.pop("meta").get("tag")
        assert {**stored, "tag": tags} == {
            **{n: v for n, v in there.items() if n != "meta"},
            "tag": there.get("meta", {}).get("tag"),
        }


_JSON = [("accept", "application/fhir+json")]


# --- each rule broken ----------------------------------------------------------------------------


def old_versions_unchecked(patch):
    async def replaced(step, type, id, letter):
        return await step.tx.get(type, id)

    patch.setattr(changes, "replaced", replaced)


def new_versions_unchecked(patch):
    async def require_own(step, written):
        pass

    patch.setattr(changes, "_require_own", require_own)


def other_patients_may_be_named(patch):
    patch.setattr(owners, "naming", lambda type, index: frozenset())


def other_targets_may_be_named(patch):
    async def hides(step, resource):
        return False

    patch.setattr(sight, "hides", hides)


def what_is_others_too_may_be_replaced(patch):
    async def require_nobody_else(step, version):
        pass

    patch.setattr(changes, "require_nobody_else", require_nobody_else)


def ids_may_be_chosen(patch):
    patch.setattr(handlers, "_require_update_as_create", lambda step, type: None)
    patch.setattr(changes, "writes_all", lambda step, type, letter: True)


def conditions_reach_what_is_found(patch):
    real = conditional.select

    async def select(step, type, condition, letter="s", at_most=2):
        return await real(step, type, condition, "s", at_most)

    patch.setattr(conditional, "select", select)
    patch.setattr(handlers, "select", select)


def conditions_find_everything(patch):
    patch.setattr(
        conditional.access,
        "visible",
        lambda core, grant, type, letter: EVERYTHING,
    )


def conditions_need_no_search(patch):
    real = access.check

    def check(core, grant, asked):
        real(core, grant, asked.settled(id="x") if asked.condition is not None else asked)

    patch.setattr(access, "check", check)
    patch.setattr(access, "check_search", lambda grant, type: None)


def letters_of_writes_swapped(patch):
    patch.setitem(access.LETTERS, "delete", "u")


def shared_types_written_by_all(patch):
    real = access._compartments

    def compartments(index, grant, ids, type, *rest):
        return EVERYTHING if type in owners.SHARED else real(index, grant, ids, type, *rest)

    patch.setattr(access, "_compartments", compartments)


WRITING = [
    old_versions_unchecked,
    new_versions_unchecked,
    other_patients_may_be_named,
    other_targets_may_be_named,
    what_is_others_too_may_be_replaced,
    ids_may_be_chosen,
    conditions_reach_what_is_found,
    conditions_find_everything,
    conditions_need_no_search,
    letters_of_writes_swapped,
    shared_types_written_by_all,
]


@pytest.mark.parametrize("broken", WRITING, ids=lambda each: each.__name__)
def test_a_rule_of_writing_that_is_broken_is_seen_to_be(hospital, monkeypatch, broken):
    for seed in SEEDS:
        there = hospital(seed)
        with monkeypatch.context() as patch:
            broken(patch)
            try:
                write_and_compare(*there, seed)
            except AssertionError:
                return
    pytest.fail(f"nobody noticed {broken.__name__}")
