"""How many jobs there may be of one client, how far one is, and how it ends.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-status-request
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from tests.bulk.world import ASYNC, kick_off, work
from tests.security.clinic import BASE, grant

ALL = grant("system/*.rs", client="warehouse")


def test_jobs_are_counted_and_one_that_is_done_with_makes_room(clinic):
    clinic.server.core.bulk.jobs = 2
    first = kick_off(clinic, ALL)
    kick_off(clinic, ALL)
    third = clinic.ask(ALL, "GET", "$export", headers=[ASYNC])
    day = str(24 * 3600)  # nothing of it is done: it is kept so long when it is
    assert (third.status, third.code, third.header("retry-after")) == (429, "throttled", day)
    other = grant("system/*.rs", client="other")
    kick_off(clinic, other)
    assert clinic.ask(ALL, "DELETE", first).status == 202
    kick_off(clinic, ALL)
    clinic.server.core.bulk.total = 3
    assert clinic.ask(other, "GET", "$export", headers=[ASYNC]).status == 429


def test_who_has_as_many_jobs_as_may_be_is_told_which_and_when_one_goes(clinic):
    clinic.server.core.bulk.jobs = 2
    done = kick_off(clinic, ALL)
    work(clinic)
    running = kick_off(clinic, ALL)
    stranger = kick_off(clinic, grant("system/*.rs", client="other"))
    refused = clinic.ask(ALL, "GET", "$export", headers=[ASYNC])
    (issue,) = refused.json["issue"]
    assert issue["diagnostics"] == (
        "There are as many exports and imports of this client as may be (SALUS_BULK_JOBS). DELETE "
        f"one that is done with: {BASE}/{done} (export, done), {BASE}/{running} (export, running)"
    )
    assert stranger not in issue["diagnostics"]
    expires = parsedate_to_datetime(clinic.ask(ALL, "GET", done).header("expires")).timestamp()
    left = expires - clinic.server.core.clock() / 1_000_000
    assert abs(int(refused.header("retry-after")) - left) < 5
    clinic.server.core.bulk.total = 3
    nobody = clinic.ask(grant("system/*.rs", client="third"), "GET", "$export", headers=[ASYNC])
    assert (nobody.status, "/_bulk/" in nobody.body.decode()) == (429, False)


def test_status_tells_how_far_it_is_and_is_not_asked_without_end(clinic):
    status = kick_off(clinic, ALL)
    answer = clinic.ask(ALL, "GET", status)
    assert answer.status == 202
    assert answer.header("x-progress") == "0 resources looked at, 0 to export"
    assert int(answer.header("retry-after")) >= 1
    soon = clinic.ask(ALL, "GET", status)
    assert (soon.status, soon.code, soon.header("retry-after")) == (429, "throttled", "1")
    work(clinic)
    done = clinic.ask(ALL, "GET", status)
    assert done.status == 200
    assert done.header("content-type") == "application/json"
    assert done.header("expires")


def test_a_job_that_is_forgotten_is_gone_with_its_files(clinic):
    status = kick_off(clinic, ALL)
    work(clinic, rounds=1)
    assert clinic.ask(ALL, "DELETE", status).status == 202
    work(clinic)
    again = clinic.ask(ALL, "GET", status)
    assert (again.status, again.code) == (404, "not-found")
    assert again.json["resourceType"] == "OperationOutcome"
    assert clinic.ask(ALL, "DELETE", status).status == 404
