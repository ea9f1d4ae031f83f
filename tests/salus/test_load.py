"""`salus load`: every line once, in order, and what failed in a file with the reasons."""

import asyncio
import gzip
import hashlib
import json

import httpx
import pytest

from salus.load import HttpTarget, Load, LoadError, Report, files, load
from salus.load.requests import Refused, requests
from salus.load.sources import Line, lines
from salus.load.targets import Answer


def patient(**more):
    return {"resourceType": "Patient", **more}


def bundle(type, *entries):
    return {"resourceType": "Bundle", "type": type, "entry": list(entries)}


def post(resource, **more):
    request = {"method": "POST", "url": resource["resourceType"]}
    return {"resource": resource, "request": request, **more}


def line(value, number=1):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Line("f", number, data, f"digest:{number}")


class Remembering:
    """A target that stores what it is sent once per key, refuses whatever names `refuse`, and
    notes how many requests it had at once."""

    def __init__(self, delay=0.0):
        self.sent, self.stored, self.delay = [], {}, delay
        self.here = self.most = 0
        self.together = []

    async def send(self, request):
        self.here += 1
        self.most = max(self.most, self.here)
        self.together.append(self.here)
        await asyncio.sleep(self.delay)
        self.here -= 1
        self.sent.append(request)
        if b"refuse" in request.body and request.methods is None:
            return Answer(422, json.dumps(outcome("Patient.gender", "not a code")).encode())
        self.stored.setdefault(request.once, request)
        if request.methods is None:
            return Answer(201, b"")
        entries = json.loads(request.body)["entry"]
        return Answer(200, json.dumps(bundle("batch-response", *map(answered, entries))).encode())


def outcome(where, why):
    issue = {"severity": "error", "code": "value", "diagnostics": why, "expression": [where]}
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def answered(entry):
    if "refuse" in json.dumps(entry):
        told = outcome("Patient.gender", "not a code")
        return {"response": {"status": "422 Unprocessable Entity", "outcome": told}}
    return {"response": {"status": "201 Created", "location": "Patient/1/_history/1"}}


def run(paths, target, failed, **how):
    return asyncio.run(load(paths, Load(target, failed, **how)))


def write(path, *documents):
    data = b"".join(json.dumps(each).encode() + b"\n" for each in documents)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


# --- files ---------------------------------------------------------------------------------------


def test_directories_are_read_by_name_and_other_files_left_away(tmp_path):
    for name in ("b.ndjson", "a.json", "sub/c.ndjson.gz", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, patient())

    assert [each.name for each in files([tmp_path])] == ["a.json", "b.ndjson", "c.ndjson.gz"]


@pytest.mark.parametrize("name", ["missing.ndjson", "notes.txt", "empty"])
def test_what_cannot_be_loaded_is_said_before_anything_is(tmp_path, name):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()

    with pytest.raises(LoadError, match=name):
        files([tmp_path / name])


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "a.jsonl"])
def test_a_line_is_named_by_the_digest_of_its_file_and_its_number(tmp_path, name):
    path = write(tmp_path / name, patient(id="1"), patient(id="2"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    assert [(each.number, each.key, json.loads(each.data)["id"]) for each in lines(path)] == [
        (1, f"{digest}:1", "1"),
        (2, f"{digest}:2", "2"),
    ]


def test_empty_lines_are_skipped_but_counted_and_json_is_one_document(tmp_path):
    (tmp_path / "a.ndjson").write_text('\n{"a":1}\n\n{"b":2}')
    (tmp_path / "a.json").write_text('\ufeff{\n "a": 1\n}\n')

    assert [each.number for each in lines(tmp_path / "a.ndjson")] == [2, 4]
    assert [each.data for each in lines(tmp_path / "a.json")] == [b'{\n "a": 1\n}']


def test_progress_adds_up_to_the_files_size(tmp_path):
    path = write(tmp_path / "a.ndjson.gz", *(patient(id=str(n)) for n in range(1000)))
    read = []

    assert len(list(lines(path, read.append))) == 1000
    assert sum(read) == path.stat().st_size


def test_a_damaged_archive_is_named(tmp_path):
    path = tmp_path / "a.ndjson.gz"
    path.write_bytes(gzip.compress(b"{}\n" * 1000)[:-20])

    with pytest.raises(LoadError, match=r"a\.ndjson\.gz cannot be read beyond line \d+: "):
        list(lines(path))


# --- what a line asks ----------------------------------------------------------------------------


def test_a_transaction_is_sent_as_it_is():
    sent = json.dumps(bundle("transaction", post(patient())), indent=1).encode()
    (made,) = requests(line(sent))

    assert (made.method, made.path, made.body, made.once) == ("POST", "", sent, "digest:1")
    assert (made.ordered, made.patient, made.methods) == (True, True, ("POST",))


def test_a_resource_keeps_its_id_and_gets_one_where_it_has_none():
    (kept,) = requests(line(patient(id="a1")))
    (made,) = requests(line(patient()))

    assert (kept.method, kept.path, kept.ordered) == ("PUT", "Patient/a1", False)
    assert (made.method, made.path, made.ordered) == ("POST", "Patient", False)


def test_the_entries_of_a_collection_are_stored_and_digits_kept():
    text = (
        b'{"resourceType":"Bundle","type":"searchset","entry":['
        b'{"resource":{"resourceType":"Observation","id":"o","valueQuantity":{"value":72.50}}},'
        b'{"resource":{"resourceType":"Patient"}},'
        b'{"resource":{"resourceType":"OperationOutcome"},"search":{"mode":"outcome"}}]}'
    )
    (made,) = requests(line(text))
    sent = json.loads(made.body)

    assert sent["type"] == "batch"
    assert [each["request"] for each in sent["entry"]] == [
        {"method": "PUT", "url": "Observation/o"},
        {"method": "POST", "url": "Patient"},
    ]
    assert b'"value":72.50' in made.body


def test_a_collection_that_links_itself_is_one_transaction():
    linked = {"fullUrl": "urn:uuid:8f0cf6e8-3d59-4ec7-8d31-52a91a3e9f62", "resource": patient()}
    (made,) = requests(line(bundle("collection", linked)))

    assert json.loads(made.body)["type"] == "transaction"


def test_a_large_collection_becomes_several_batches_with_keys_of_their_own():
    entries = [{"resource": patient(id=str(n))} for n in range(2500)]
    made = requests(line(bundle("collection", *entries)))

    assert [len(each.methods) for each in made] == [1000, 1000, 500]
    assert [each.once for each in made] == ["digest:1", "digest:1:1000", "digest:1:2000"]


def test_a_document_is_a_resource_in_itself():
    (made,) = requests(line({**bundle("document"), "id": "d1"}))

    assert (made.method, made.path) == ("PUT", "Bundle/d1")


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b'"text"', b"{}", b"\xff", b'{"resourceType":"Bundle","type":"history"}'],
)
def test_a_line_that_holds_nothing_to_store_is_refused(data):
    with pytest.raises(Refused):
        requests(line(data))


# --- a whole load --------------------------------------------------------------------------------


def test_seeds_go_one_by_one_and_patients_several_at_once(tmp_path):
    seeds = [bundle("transaction", post({"resourceType": "Organization"})) for _ in range(3)]
    patients = [bundle("transaction", post(patient())) for _ in range(9)]
    path = write(tmp_path / "a.ndjson", *seeds, *patients)
    target = Remembering(0.005)

    report = run([path], target, tmp_path / "failed")

    assert target.together[:4] == [1, 1, 1, 1]
    assert target.most == 4
    assert [each.once.rpartition(":")[2] for each in target.sent[:3]] == ["1", "2", "3"]
    assert (report.files, report.lines, report.resources, report.failures) == (1, 12, 12, 0)
    assert report.complete
    assert not (tmp_path / "failed").exists()


def test_two_versions_of_one_resource_never_fly_at_once(tmp_path):
    path = write(tmp_path / "a.ndjson", *(patient(id="a", active=n % 2 == 0) for n in range(5)))
    target = Remembering(0.002)

    run([path], target, tmp_path / "failed")

    assert target.most == 1
    assert [each.once.rpartition(":")[2] for each in target.sent] == ["1", "2", "3", "4", "5"]


def test_loading_again_stores_nothing_new(tmp_path):
    path = write(tmp_path / "a.ndjson", *(bundle("transaction", post(patient())) for _ in range(5)))
    target = Remembering()

    run([path], target, tmp_path / "failed")
    path.rename(tmp_path / "b.ndjson")
    report = run([tmp_path / "b.ndjson"], target, tmp_path / "failed")

    assert (len(target.sent), len(target.stored), report.resources) == (10, 5, 5)


def test_what_fails_goes_to_a_file_with_the_reasons_and_can_be_loaded_from_there(tmp_path):
    path = write(
        tmp_path / "a.ndjson",
        bundle("batch", post(patient(id="fine")), post(patient(gender="refuse"))),
        patient(gender="refuse"),
    )
    with path.open("ab") as file:
        file.write(b"not json\n")
    failed = tmp_path / "out.failed.ndjson"

    report = run([path], Remembering(), failed)
    told = sorted(map(json.loads, failed.read_text().splitlines()), key=lambda each: each["line"])

    assert (report.resources, report.failures, report.complete) == (1, 3, False)
    assert failed.stat().st_mode & 0o777 == 0o600
    assert told[2].pop("reasons")[0].startswith("not the JSON of a resource")
    assert told == [
        {
            "file": str(path),
            "line": 1,
            "entry": 1,
            "status": 422,
            "reasons": ["Patient.gender: not a code"],
            "content": bundle("batch", post(patient(gender="refuse"))),
        },
        {
            "file": str(path),
            "line": 2,
            "entry": None,
            "status": 422,
            "reasons": ["Patient.gender: not a code"],
            "content": patient(gender="refuse"),
        },
        {
            "file": str(path),
            "line": 3,
            "entry": None,
            "status": None,
            "content": "not json",
        },
    ]
    mended = tmp_path / "mended.ndjson"
    mended.write_text(failed.read_text().replace('"refuse"', '"other"'))
    again = run([mended], Remembering(), tmp_path / "again")
    assert (again.resources, again.failures) == (2, 1)


def test_what_fails_again_unmended_is_written_as_before(tmp_path):
    path = write(tmp_path / "a.ndjson", patient(gender="refuse"))
    with path.open("ab") as file:
        file.write(b"not json\n[]\n")
    first, second, third = (tmp_path / f"{n}.ndjson" for n in range(3))

    run([path], Remembering(), first)
    run([first], Remembering(), second)
    run([second], Remembering(), third)
    contents = [
        sorted(str(json.loads(each)["content"]) for each in file.read_text().splitlines())
        for file in (first, second, third)
    ]

    assert contents[0] == sorted([str(patient(gender="refuse")), "not json", "[]"])
    assert contents[1:] == [contents[0]] * 2


def test_a_target_that_goes_away_ends_the_load_with_a_sentence(tmp_path):
    class Leaving(Remembering):
        async def send(self, request):
            if len(self.sent) == 2:
                raise LoadError("gone")
            return await super().send(request)

    path = write(tmp_path / "a.ndjson", *(patient() for _ in range(5)))

    report = run([path], Leaving(), tmp_path / "failed", in_flight=1)

    assert (report.resources, report.stopped, report.complete) == (2, "gone", False)


def test_an_empty_report_is_complete():
    assert Report().complete


# --- over HTTP -----------------------------------------------------------------------------------


def sent_over_http(handler, monkeypatch):
    monkeypatch.setattr("salus.load.targets.FIRST_PAUSE_SECONDS", 0.001)

    async def go():
        async with httpx.AsyncClient(transport=httpx.MockTransport(handler)) as client:
            target = HttpTarget("http://server.example/fhir/", client)
            return await target.send(requests(line(patient(id="a")))[0])

    return asyncio.run(go())


def test_a_request_carries_its_key(monkeypatch):
    seen = []

    def handler(request):
        seen.append(request)
        return httpx.Response(201)

    assert sent_over_http(handler, monkeypatch) == Answer(201, b"")
    (request,) = seen
    assert (request.method, str(request.url)) == ("PUT", "http://server.example/fhir/Patient/a")
    assert request.headers["Idempotency-Key"] == "digest:1"
    assert request.headers["Prefer"] == "return=minimal"
    assert request.headers["Content-Type"] == "application/fhir+json"


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(monkeypatch):
    answers = [503, 429, 201]
    assert sent_over_http(lambda _: httpx.Response(answers.pop(0)), monkeypatch).status == 201
    answers = [422, 201]
    assert sent_over_http(lambda _: httpx.Response(answers.pop(0)), monkeypatch).status == 422


@pytest.mark.parametrize(
    ("said", "waited"), [("0.4", 0.001), ("2", 2.0), ("999999", 120.0), ("9" * 500, 0.001)]
)
def test_who_is_told_to_wait_waits_as_long_within_reason(monkeypatch, said, waited):
    slept = []
    told = [httpx.Response(429, headers={"Retry-After": said}), httpx.Response(201)]

    async def sleep(seconds):
        slept.append(seconds)

    monkeypatch.setattr("salus.load.targets.asyncio.sleep", sleep)
    assert sent_over_http(lambda _: told.pop(0), monkeypatch).status == 201
    assert slept == [waited]


def test_a_server_that_is_not_there_is_said_at_once(monkeypatch):
    def handler(request):
        raise httpx.ConnectError("refused")

    with pytest.raises(LoadError, match=r"start one with `.*salus serve`"):
        sent_over_http(handler, monkeypatch)
