"""$import: what lines become, what is refused of them and where, and that nothing comes twice."""

from __future__ import annotations

import asyncio
import json

import pytest

from conformance.outcome import FhirError
from tests.bulk.world import ASYNC, below, lines, manifest, work
from tests.security.clinic import EVERYBODY, grant
from tests.security.people import observation, reference, resource

WRITER = grant("system/*.cruds", client="loader")
NDJSON = ("Content-Type", "application/fhir+ndjson")


def ndjson(*resources) -> bytes:
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n"
        for each in resources
    )


def begin(clinic, body: bytes, caller=WRITER) -> str:
    answer = clinic.ask(caller, "POST", "$import", body, [ASYNC, NDJSON])
    assert answer.status == 202, answer.body
    return below(answer.header("content-location"))


def refusals(clinic, told, caller=WRITER) -> list[str]:
    return [
        issue["diagnostics"]
        for each in told["error"]
        for line in lines(clinic, caller, each["url"])
        for issue in line["issue"]
    ]


def test_lines_become_resources_under_their_ids(clinic):
    status = begin(
        clinic,
        ndjson(resource("Patient/new"), observation("Observation/new", "Patient/new"), b"")
        + b'{"resourceType":"Location"}',
    )
    assert clinic.ask(WRITER, "GET", status).status == 202
    work(clinic)
    told = manifest(clinic, WRITER, status)
    assert told["output"] == [
        {"type": "Location", "count": 1},
        {"type": "Observation", "count": 1},
        {"type": "Patient", "count": 1},
    ]
    assert told["error"] == []
    assert clinic.ask(EVERYBODY, "GET", "Patient/new").status == 200
    assert clinic.ask(EVERYBODY, "GET", "Observation?subject=Patient/new").names == [
        "Observation/new"
    ]


def test_what_is_refused_is_told_with_its_line(clinic):
    status = begin(
        clinic,
        ndjson(
            resource("Patient/one"),
            b"{no json",
            resource("Patient/two", gender="nonsense"),
            b'["a list"]',
            b"",
            {"resourceType": "Nothing"},
            resource("Patient/three"),
        ),
    )
    work(clinic)
    told = manifest(clinic, WRITER, status)
    assert told["output"] == [{"type": "Patient", "count": 2}]
    (error,) = told["error"]
    texts = refusals(clinic, told)
    assert error["count"] == 4
    assert [text.split(":")[0] for text in texts] == ["Line 2", "Line 3", "Line 4", "Line 6"]
    assert texts[0].startswith("Line 2: This is not JSON: the fault is at column ")
    assert not [text for text in texts if "nonsense" in text or "list" in text.split(":")[1]]


def test_the_place_of_what_is_wrong_is_that_in_the_resource_of_the_line(clinic):
    status = begin(clinic, ndjson(resource("Patient/a"), resource("Patient/b", gender="nonsense")))
    work(clinic)
    (error,) = manifest(clinic, WRITER, status)["error"]
    (told,) = lines(clinic, WRITER, error["url"])
    assert told["issue"][0]["expression"] == ["Patient.gender"]


def test_resources_that_lost_the_ends_of_their_lines_are_told_with_what_does_that(clinic):
    glued = ndjson(resource("Patient/a"), resource("Patient/b")).replace(b"\n", b"")
    status = begin(clinic, glued)
    work(clinic)
    (text,) = refusals(clinic, manifest(clinic, WRITER, status))
    assert text.startswith("Line 1: This is not JSON: ") and text.endswith("with --data-binary")


def test_an_import_of_nothing_is_refused(clinic):
    answer = clinic.ask(WRITER, "POST", "$import", b"", [ASYNC, NDJSON])
    assert (answer.status, answer.code) == (400, "required")
    assert "The body is empty" in answer.body.decode()


def test_of_many_refused_lines_the_first_are_told_and_all_are_counted(clinic, monkeypatch):
    for module in ("importing", "status"):
        monkeypatch.setattr(f"fhir_server.bulk.{module}.TOLD", 150)
    made = [resource(f"Patient/n{n}") for n in range(300)]
    status = begin(clinic, ndjson(*made) + b"1\n" * 250)
    work(clinic)
    told = manifest(clinic, WRITER, status)
    texts = refusals(clinic, told)
    assert told["output"] == [{"type": "Patient", "count": 300}]
    assert told["error"][0]["count"] == len(texts) == 151
    assert texts[0] == "250 lines were refused, of which the first 150 are told"
    assert [text.split(":")[0] for text in texts[1:]] == [f"Line {n}" for n in range(301, 451)]


@pytest.mark.parametrize("line", [b"1\n", b"\n", b'{"resourceType":"Nothing"}\n'])
def test_an_import_whose_lines_become_nothing_is_given_up(clinic, monkeypatch, line):
    monkeypatch.setattr("fhir_server.bulk.importing.IN_VAIN", 250)
    status = begin(clinic, ndjson(resource("Patient/first")) + line * 2000)
    work(clinic)
    told = manifest(clinic, WRITER, status)
    assert told["output"] == [{"type": "Patient", "count": 1}]
    text = "The import was given up after 300 lines: most of them became nothing"
    assert refusals(clinic, told)[0] == text
    assert left(clinic) <= {"-errors"}
    fair = ndjson(*(resource(f"Patient/n{n}") for n in range(300))) + line * 299
    status = begin(clinic, fair)
    work(clinic)
    assert text not in refusals(clinic, manifest(clinic, WRITER, status))


def test_a_file_has_at_most_so_many_lines(clinic):
    clinic.server.core.bulk.import_lines = 200
    made = [resource(f"Patient/n{n}") for n in range(350)]
    text = "Input 1 has too many lines: none was read after 200"
    for count, errors in ((200, []), (350, [text])):
        status = begin(clinic, ndjson(*made[:count]))
        work(clinic)
        told = manifest(clinic, WRITER, status)
        assert told["output"] == [{"type": "Patient", "count": 200}]
        assert refusals(clinic, told) == errors
        assert left(clinic) == set()


def test_few_issues_of_a_line_are_told(clinic):
    status = begin(clinic, ndjson(resource("Patient/x", **{f"no{n}": 1 for n in range(50)})))
    work(clinic)
    assert 1 < len(refusals(clinic, manifest(clinic, WRITER, status))) <= 10


def test_a_body_that_unpacks_out_of_proportion_is_refused():
    from fhir_server.bulk import imports

    def unpacks(sent: bytes, unpacked: int) -> int:
        async def receive():
            return {"body": sent}

        async def stream():
            await body()
            for _ in range(unpacked // 1024):
                yield bytes(1024)

        async def read():
            return sum([len(part) async for part in body.bounded(stream())])

        body = imports._Sent(receive)
        return asyncio.run(read())

    assert unpacks(b"x" * 20, 1024 * 1024) == 1024 * 1024
    assert unpacks(b"x" * 20_480, 2000 * 1024) == 2000 * 1024
    with pytest.raises(FhirError) as refused:
        unpacks(b"x" * 20_480, 2001 * 1024)
    assert (refused.value.status, refused.value.issues[0].code) == (413, "too-costly")


def left(clinic) -> set[str]:
    """What is kept of jobs beside them."""

    async def look(tx):
        return {each.key.split("/")[1] for each in await tx.range("bulk.list", "", "~")}

    return clinic._runner.run(clinic.store.transaction(look))


def test_many_lines_come_in_batches_and_none_is_lost_between_pieces(clinic, monkeypatch):
    monkeypatch.setattr("fhir_server.bulk.imports.PIECE", 777)
    monkeypatch.setattr("fhir_server.bulk.importing.PIECE", 777)
    monkeypatch.setattr("fhir_server.bulk.importing.LINES", 7)
    made = [
        resource(f"Patient/n{n}", name=[{"family": "x" * (1 + n * 13 % 900)}]) for n in range(60)
    ]
    status = begin(clinic, ndjson(*made))
    work(clinic)
    assert manifest(clinic, WRITER, status)["output"] == [{"type": "Patient", "count": 60}]
    for each in made:
        assert clinic.ask(EVERYBODY, "GET", f"Patient/{each['id']}").json["name"] == each["name"]


def test_a_batch_that_was_written_but_not_noted_is_not_written_again(clinic, monkeypatch):
    from fhir_server.bulk.importing import Importing

    status = begin(clinic, ndjson(*({"resourceType": "Location"} for _ in range(5))))
    keep = Importing._keep

    async def crash(self, progress, refused, read=None):
        monkeypatch.setattr(Importing, "_keep", keep)
        from fhir_server.storage.store import Unavailable

        raise Unavailable("the disk is full at this very moment")

    monkeypatch.setattr(Importing, "_keep", crash)
    from fhir_server.storage.store import Unavailable

    with pytest.raises(Unavailable):
        work(clinic)
    work(clinic)
    assert manifest(clinic, WRITER, status)["output"] == [{"type": "Location", "count": 5}]
    assert clinic.ask(EVERYBODY, "GET", "Location?_summary=count").json["total"] == 5


@pytest.mark.parametrize("scopes", ["system/*.rs", "", "system/Patient.rsd"])
def test_who_writes_nothing_imports_nothing(clinic, scopes):
    caller = grant(scopes, client="reader")
    body = ndjson(resource("Patient/x"))
    answer = clinic.ask(caller, "POST", "$import", body, [ASYNC, NDJSON])
    assert (answer.status, answer.code) == (403, "forbidden")
    assert clinic.ask(None, "POST", "$import", body, [ASYNC, NDJSON]).status == 401


def test_each_line_needs_what_its_write_needs(clinic):
    caller = grant("system/Patient.cu", client="desk")
    status = begin(
        clinic,
        ndjson(resource("Patient/a", gender="other"), observation("Observation/x", "Patient/a")),
        caller,
    )
    work(clinic)
    told = manifest(clinic, caller, status)
    assert told["output"] == [{"type": "Patient", "count": 1}]
    (text,) = refusals(clinic, told, caller)
    assert text.startswith("Line 2: This grant does not allow")
    assert clinic.ask(EVERYBODY, "GET", "Observation/x").status == 404


def test_who_is_limited_to_a_patient_imports_nothing_of_another(clinic):
    app = grant("patient/*.cruds", patient="a", client="app")
    body = ndjson(
        observation("Observation/lab-b", "Patient/a"), resource("Patient/b", gender="male")
    )
    status = begin(clinic, body, app)
    work(clinic)
    told = manifest(clinic, app, status)
    assert told["output"] == []
    assert len(refusals(clinic, told, app)) == 2


def test_the_import_of_somebody_else_is_absent(clinic):
    status = begin(clinic, ndjson(resource("Patient/x")))
    work(clinic)
    other = grant("system/*.cruds", client="other")
    for method in ("GET", "DELETE"):
        assert clinic.ask(other, method, status).status == 404
    assert clinic.ask(other, "GET", f"{status}/errors-1.ndjson").status == 404


def test_an_import_whose_grant_has_ended_goes_no_further(clinic):
    caller = grant("system/*.cruds", client="loader", id="ended")
    status = begin(clinic, ndjson(resource("Patient/never")), caller)

    async def ended(_):
        return False

    clinic.server.core.bulk.stands = ended
    work(clinic)
    with pytest.raises(RuntimeError):  # 500: it never will be done
        clinic.ask(caller, "GET", status)
    assert clinic.ask(EVERYBODY, "GET", "Patient/never").status == 404


def test_a_cancelled_import_stops_and_leaves_no_body_behind(clinic):
    status = begin(clinic, ndjson(resource("Patient/never")))
    assert clinic.ask(WRITER, "DELETE", status).status == 202
    work(clinic)

    async def left(tx):
        return await tx.range("bulk.list", "", "~")

    assert clinic._runner.run(clinic.store.transaction(left)) == []
    assert clinic.ask(EVERYBODY, "GET", "Patient/never").status == 404


def test_a_body_that_names_an_erased_patient_goes_with_its_job(clinic):
    from fhir_server.bulk import job as jobs

    status = begin(clinic, ndjson(observation("Observation/x", "Patient/secret")))

    async def forget(tx):
        return await jobs.forget(tx, ["Patient/secret"])

    assert clinic._runner.run(clinic.store.transaction(forget, write=True)) == 1
    assert clinic.ask(WRITER, "GET", status).status == 404


def parameters(*inputs, **more):
    made = [{"name": name, "valueCode": value} for name, value in more.items()]
    for type, url in inputs:
        part = [{"name": "type", "valueCode": type}, {"name": "url", "valueUri": url}]
        made.append({"name": "input", "part": part})
    return {"resourceType": "Parameters", "parameter": made}


def serve(clinic, files: dict[str, bytes]) -> None:
    """What the fetching of these tests gives."""
    from conformance.outcome import FhirError

    async def fetch(url, most):
        if url not in files:
            raise FhirError("not-found", "it was answered with 404")
        for start in range(0, len(files[url]), 10):
            yield files[url][start : start + 10]

    clinic.server.core.bulk.hosts = frozenset({"files.example"})
    clinic.server.core.bulk.fetch = fetch


def test_files_are_fetched_from_where_the_operator_allows(clinic):
    one, two, three = (f"https://files.example/{n}.ndjson" for n in (1, 2, 3))
    serve(clinic, {one: ndjson(resource("Patient/f")), two: ndjson(resource("Patient/wrong"))})
    body = parameters(
        ("Patient", one),
        ("Location", two),
        ("Patient", three),
        inputFormat="application/fhir+ndjson",
        inputSource="https://files.example",
    )
    answer = clinic.ask(WRITER, "POST", "$import", body, [ASYNC])
    assert answer.status == 202, answer.body
    status = below(answer.header("content-location"))
    work(clinic)
    told = manifest(clinic, WRITER, status)
    assert told["output"] == [{"type": "Patient", "count": 1}]
    assert sorted(refusals(clinic, told)) == [
        "Input 3 could not be fetched: it was answered with 404",
        "Line 1: This is no Location, as its input says",
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (parameters(("Patient", "https://elsewhere.example/x")), 400),
        (parameters(("Patient", "http://files.example/x")), 400),
        (parameters(("Patient", "https://files.example@evil.example/x")), 400),
        (parameters(("Patient", "https://evil.example/files.example")), 400),
        (parameters(("Patient", "file:///etc/passwd")), 400),
        (parameters(("AuditEvent", "https://files.example/x")), 400),
        (parameters(("Nothing", "https://files.example/x")), 400),
        (parameters(), 400),
        (parameters(("Patient", "https://files.example/x"), inputFormat="text/csv"), 400),
        (parameters(("Patient", "https://files.example/x"), unknown="x"), 400),
        (resource("Patient/x"), 400),
    ],
)
def test_what_cannot_be_imported_is_refused(clinic, body, status):
    serve(clinic, {})
    assert clinic.ask(WRITER, "POST", "$import", body, [ASYNC]).status == status


def test_who_would_wait_for_an_import_is_told_to_come_back(clinic):
    answer = clinic.ask(WRITER, "POST", "$import", ndjson(resource("Patient/x")), [NDJSON])
    assert (answer.status, answer.code) == (400, "invalid")

    async def left(tx):
        return await tx.range("bulk.list", "", "~")

    assert clinic._runner.run(clinic.store.transaction(left)) == []
    assert clinic.ask(EVERYBODY, "GET", "Patient/x").status == 404
    assert reference("Patient/x")
