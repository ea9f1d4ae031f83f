"""For random data, grants and requests the server answers what plain.py allows: no more, no less.
Then each rule of access is broken on purpose, and the same comparison is seen to fail.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

from __future__ import annotations

from random import Random

import pytest

from smart_auth.grant import Grant
from tests.security import chance, expected
from tests.security.chance import Asked, Hospital
from tests.security.clinic import BASE, EVERYBODY, Answer, Clinic, opened
from tests.security.plain import left_of, seen_by

REQUESTS = 40  # of each hospital
SEEDS = range(16)
MANY = range(1000, 1100)


@pytest.fixture(scope="module")
def hospitals(runner, tmp_path_factory):
    """Servers by seed, each made once."""
    made: dict[int, tuple[Clinic, Hospital]] = {}

    def of(seed: int) -> tuple[Clinic, Hospital]:
        if seed not in made:
            folder = tmp_path_factory.mktemp("hospital") / "data"
            clinic = Clinic(runner.run(opened(folder)), runner)
            hospital = chance.hospital(Random(seed))
            answer = clinic.ask(EVERYBODY, "POST", "", hospital.batch())
            assert {e["response"]["status"][0] for e in answer.json["entry"]} == {"2"}
            made[seed] = (clinic, hospital)
        return made[seed]

    yield of
    for clinic, _ in made.values():
        runner.run(clinic.store.close())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_caller_gets_exactly_what_is_allowed(hospitals, seed):
    compare(*hospitals(seed), seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", MANY)
def test_a_caller_gets_exactly_what_is_allowed_very_often(hospitals, seed):
    compare(*hospitals(seed), seed)


# --- the comparison ------------------------------------------------------------------------------


def compare(clinic: Clinic, hospital: Hospital, seed: int, requests: int = REQUESTS) -> None:
    """Ask as many random requests as random grants, and compare each answer with the oracle's."""
    random = Random(-seed - 1)
    for _ in range(requests):
        caller = chance.grant(random)
        how = random.choice(_REQUESTS)
        how(random, clinic, hospital, caller)


def _read(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    name = random.choice(hospital.told).name
    status, resource = expected.one(caller, hospital, name)
    answer = clinic.ask(caller, "GET", "/".join(name), headers=_JSON)
    assert answer.status == status, (caller, name)
    if resource is not None:
        _same(answer.json, left_of(caller, resource, hospital.now))


def _vread(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    told = random.choice(hospital.told)
    status = expected.version(caller, hospital, told.name, told.number)
    answer = clinic.ask(
        caller, "GET", f"{'/'.join(told.name)}/_history/{told.number}", headers=_JSON
    )
    assert answer.status == status, (caller, told)
    if status == 200 and told.resource:
        _same(answer.json, left_of(caller, told.resource, hospital.now))


def _history(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    type, id = random.choice(hospital.told).name
    at = random.choice([(type, id), (type, id), (type, None), (None, None)])
    allowed = expected.history(caller, hospital, *at)
    url = "/".join([*filter(None, at), "_history"])
    if isinstance(allowed, int):
        assert clinic.ask(caller, "GET", url).status == allowed, (caller, url)
        return
    entries, following = [], f"{url}?_count={random.choice([2, 50])}"
    while following:
        answer = clinic.ask(caller, "GET", following)
        assert answer.status == 200
        entries += answer.json.get("entry", [])
        following = answer.following
    found = [
        (
            tuple(each["fullUrl"].removeprefix(BASE + "/").split("/")),
            int(each["response"]["etag"][3:-1]),
        )
        for each in entries
    ]
    assert found == allowed, (caller, url)
    for each, (name, number) in zip(entries, found, strict=True):
        told = hospital.versions(name)[number - 1].resource
        assert ("resource" in each) == (told is not None)
        if told:
            _same(each["resource"], left_of(caller, told, hospital.now))


def _search(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    asked = chance.search(random)
    url = url_of(asked)
    try:
        allowed = expected.matches(caller, hospital, asked)
    except expected.Refused:
        answer = clinic.ask(caller, "GET", url)
        assert answer.status == 403, (caller, url, answer.body)
        return
    added = expected.included(caller, hospital, asked, allowed)
    answer = clinic.ask(caller, "GET", url)
    assert answer.status == 200, (caller, url, answer.body)
    assert _found(answer, "match") == sorted(allowed), (caller, url)
    assert _found(answer, "include") == sorted(added), (caller, url)
    _same_bodies(answer, hospital, caller)
    mark = "&" if "?" in url else "?"
    counted = clinic.ask(caller, "GET", f"{url}{mark}_summary=count").json
    assert counted["total"] == len(allowed), (caller, url)
    totalled = clinic.ask(caller, "GET", f"{url}{mark}_total=accurate&_count=1").json
    assert totalled["total"] == len(allowed), (caller, url)
    if not asked.includes:
        paged = clinic.names(caller, f"{url}{mark}_count=2")
        assert sorted(paged) == sorted("/".join(name) for name in allowed), (caller, url)


def _system(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    url = random.choice(["", "?_summary=count"])
    try:
        allowed = expected.system(caller, hospital)
    except expected.Refused:
        assert clinic.ask(caller, "GET", url).status == 403, caller
        return
    answer = clinic.ask(caller, "GET", url)
    if url:
        assert answer.json["total"] == len(allowed), caller
    else:
        assert sorted(clinic.names(caller, "")) == sorted("/".join(each) for each in allowed)


def _batch(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    """Reads and searches as entries are answered as by themselves."""
    urls = ["/".join(random.choice(hospital.told).name) for _ in range(3)]
    urls += [url_of(chance.search(random)) for _ in range(2)]
    entries = [{"request": {"method": "GET", "url": url}} for url in urls]
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    answer = clinic.ask(caller, "POST", "", bundle)
    for url, entry in zip(urls, answer.json["entry"], strict=True):
        alone = clinic.ask(caller, "GET", url, headers=_JSON)
        assert entry["response"]["status"].startswith(str(alone.status)), (caller, url)
        if alone.status == 200:
            assert entry["resource"] == alone.json, (caller, url)


def _page_of_another(random: Random, clinic: Clinic, hospital: Hospital, caller: Grant) -> None:
    """A link is for the grant that it was made for."""
    answer = clinic.ask(caller, "GET", "Observation?_count=1")
    if answer.status == 200 and answer.following:
        assert clinic.ask(caller, "GET", answer.following).status == 200
        other = Grant("an app", id="another", scopes=caller.scopes, patient=caller.patient)
        assert clinic.ask(other, "GET", answer.following).status in (403, 404)


_JSON = [("accept", "application/fhir+json")]  # what is not raw of a Binary
_REQUESTS = [
    _read,
    _read,
    _vread,
    _history,
    _history,
    *[_search] * 8,
    _system,
    _batch,
    _page_of_another,
]


def url_of(asked: Asked) -> str:
    """A search as a URL below the base."""
    path = f"{asked.compartment}/{asked.type}" if asked.compartment else asked.type
    parts = [asked.query] if asked.query else []
    for include in asked.includes:
        name = "_revinclude" if include.reverse else "_include"
        value = "*" if include.source == "*" else f"{include.source}:{include.param}"
        parts.append(f"{name}{':iterate' if include.iterate else ''}={value}")
    query = "&".join(parts).replace("|", "%7C")
    return f"{path}?{query}" if query else path


def _found(answer: Answer, mode: str) -> list[tuple[str, str]]:
    entries = answer.json.get("entry", [])
    return sorted(
        (each["resource"]["resourceType"], each["resource"]["id"])
        for each in entries
        if each["search"]["mode"] == mode
    )


def _same_bodies(answer: Answer, hospital: Hospital, caller: Grant) -> None:
    seen = seen_by(caller, "s", hospital.now)
    for each in answer.json.get("entry", []):
        resource = each["resource"]
        _same(resource, seen[resource["resourceType"], resource["id"]])


def _same(got: dict, told: dict) -> None:
    """Equal but for what a server stamps."""
    assert _bare(got) == _bare(told)


def _bare(resource: dict) -> dict:
    meta = {
        name: value
        for name, value in resource.get("meta", {}).items()
        if name not in ("versionId", "lastUpdated")
    }
    return {**{n: v for n, v in resource.items() if n != "meta"}, "meta": meta}
