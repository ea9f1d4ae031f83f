"""The benchmark judges before it times: its own answers are right, and it sees wrong ones."""

import asyncio
import json
from random import Random

import pytest
import uvloop

from salus.bench import machine, steps, truth
from salus.bench.calibration import QUIET, Calibration, calibrate
from salus.bench.gate import Gate
from salus.bench.shapes import Shape, harvest, read_shapes
from salus.bench.subject import OwnServer
from salus.bench.wire import Address, Reply, Request, ask, drive
from salus.bench.world import World, decode, lines
from tests.shared import shared

CLINIC = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [
        {
            "fullUrl": "urn:uuid:1",
            "resource": {
                "resourceType": "Patient",
                "name": [{"family": "Ángel", "given": ["Bo"]}],
                "birthDate": "1980-02-29",
            },
        },
        {
            "fullUrl": "urn:uuid:2",
            "resource": {
                "resourceType": "Observation",
                "subject": {"reference": "urn:uuid:1"},
                "code": {"coding": [{"system": "http://loinc.org", "code": "8302-2"}]},
                "effectiveDateTime": "2020-01-01T23:30:00+00:00",
                "valueQuantity": {"value": 170.4},
            },
        },
    ],
}
ANSWER = {
    "entry": [
        {"response": {"status": "201", "location": "http://x/fhir/Patient/p/_history/1"}},
        {"response": {"status": "201 Created", "location": "Observation/o"}},
    ]
}


@pytest.fixture
def world():
    made = World()
    made.add(decode(json.dumps(CLINIC).encode()), ANSWER)
    return made


def test_the_world_knows_the_servers_own_ids(world):
    assert world.types["Observation"]["o"]["subject"] == {"reference": "Patient/p"}
    assert (world.counts, world.failed) == ({"Patient": 1, "Observation": 1}, 0)


def test_what_the_server_did_not_store_is_counted_and_left_out():
    world = World()
    world.add(CLINIC, {"entry": [ANSWER["entry"][0], {"response": {"status": "422"}}]})

    assert (world.counts, world.failed) == ({"Patient": 1}, 1)


@pytest.mark.parametrize(
    ("shape", "draw", "right"),
    [
        ("s1", {"family": "ang"}, {"p"}),
        ("s1", {"family": "gel"}, set()),
        ("s3", {"mid3": "nge"}, {"p"}),
        ("d1", {"pfx": "eq", "birthdate": "1980-02-29"}, {"p"}),
        ("d1", {"pfx": "gt", "birthdate": "1980-02-29"}, set()),
        ("d1", {"pfx": "ge", "birthdate": "1980-02-29"}, {"p"}),
        ("d2", {"pfx": "lt", "obsdate": "2020-01-02"}, {"o"}),
        ("d2", {"pfx": "sa", "obsdate": "2020-01-01"}, set()),
        ("n1", {"cmp": "eq", "qty": "170"}, {"o"}),
        ("n1", {"cmp": "gt", "qty": "170"}, {"o"}),
        ("n1", {"cmp": "le", "qty": "170"}, set()),
        ("f1", {"patient": "p"}, {"o"}),
        ("f1", {"patient": "q"}, set()),
        ("j5", {"family": "Angel"}, {"o"}),
        ("j5", {"family": "Other"}, set()),
    ],
)
def test_the_right_answer_is_known(world, shape, draw, right):
    assert truth.truth(shape, world, draw) == right


def test_a_period_that_reaches_into_a_day_may_count_as_that_day():
    world = World()
    world.types["Encounter"]["e"] = {
        "period": {"start": "2020-01-01T23:00:00+00:00", "end": "2020-01-02T01:00:00+00:00"}
    }
    le, lt = ({"pfx": prefix, "encdate": "2020-01-01"} for prefix in ("le", "lt"))

    assert truth.truth("d3", world, le) == truth.truth("d3", world, lt) == set()
    assert (truth.arguable("d3", world, le), truth.arguable("d3", world, lt)) == ({"e"}, set())


def test_the_right_answers_agree_with_the_counted_totals():
    path = shared("data/synthea/smart-bench60.ndjson.gz")
    world, number = World(), 0
    for line in lines(path):
        bundle = decode(line)
        places = []
        for entry in bundle["entry"]:
            number += 1
            place = f"{entry['resource']['resourceType']}/i{number}"
            places.append({"response": {"status": "201", "location": place}})
        world.add(bundle, {"entry": places})
    totals = next(
        each["totals"]
        for each in json.loads(shared("data/synthea/oracle-totals.json").read_text())
        if each["tier"] == "bench60"
    )

    def count(shape, **draw):
        return len(truth.truth(shape, world, draw))

    assert count("t6") == totals["Observation?category=laboratory"]
    assert count("t8") == totals["Encounter?class=AMB"]
    assert count("t3", loinc="8302-2") == totals["Observation?code=http://loinc.org|8302-2"]
    assert count("s1", family="S") == totals["Patient?family=S"]
    assert (
        count("d1", pfx="ge", birthdate="1980-01-01") == (totals["Patient?birthdate=ge1980-01-01"])
    )
    assert count("d2", pfx="ge", obsdate="2020-01-02") == totals["Observation?date=ge2020-01-02"]
    assert (
        count("t9", snomed="444814009")
        == (totals["Condition?code=http://snomed.info/sct|444814009"])
    )
    pools = harvest(world, Random(1))
    for shape in read_shapes(shared("data/synthea/queries.json")):
        if not shape.paged:
            draw = shape.draw(pools, Random(2))
            assert "{" not in shape.fill(draw)
            assert shape.fill(draw).isascii()


def test_values_are_encoded_and_separators_kept():
    shape = Shape("x", "token", "/Patient?identifier=http://a|{mrn}&name={name}", ("mrn",), {})

    assert shape.fill({"mrn": "1&2", "name": "María L"}) == (
        "/Patient?identifier=http://a%7C1%262&name=Mar%C3%ADa%20L"
    )


# --- over a socket -------------------------------------------------------------------------------


def served(answers, check):
    """Run `check(address)` against a server that gives each request the next of the answers."""

    async def go():
        async def handle(reader, writer):
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(answers(head))
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            return await check(Address.of(f"http://127.0.0.1:{port}/fhir"))
        finally:
            server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(go())


def reply(status, body=b"", chunked=False):
    if chunked:
        parts = b"".join(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
        return b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (status, parts)
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@pytest.mark.parametrize("chunked", [False, True])
def test_an_answer_is_read_whole(chunked):
    async def check(address):
        return await ask(address, address.request("GET", "/metadata"))

    (got,) = served(lambda head: reply(200, b"hello", chunked), check)

    assert (got.status, got.body) == (200, b"hello")


def test_requests_are_counted_by_label_and_status():
    async def check(address):
        made = [address.request("GET", "/a", label="a"), address.request("GET", "/b", label="b")]
        return await drive(address, steps.in_turn(made, 2), 0.2)

    sample = served(lambda head: reply(404 if b"/fhir/b" in head else 200), check)

    assert sample.requests == sum(sample.statuses.values()) > 10
    assert set(sample.statuses) == {("a", 200), ("b", 404)}
    assert sample.errors == sample.statuses["b", 404]


def test_a_server_that_hangs_up_is_an_error():
    async def check(address):
        return await ask(address, address.request("GET", "/a"))

    with pytest.raises(ConnectionError):
        served(lambda head: b"HTTP/1.1 200 OK\r\n\r\n", check)


def judged(world, shape, answer):
    async def check(address):
        pools = {**harvest(world, Random(1)), "patient": ["p"]}
        return await Gate(address, world, pools, "none", Random(1), 3).judge(shape)

    verdict = served(lambda head: reply(200, json.dumps(answer).encode()), check)
    return verdict.judged, verdict.why


def searchset(*ids, **more):
    entries = [{"resource": {"id": id}, "search": {"mode": "match"}} for id in ids]
    return {"resourceType": "Bundle", "entry": entries, **more}


def test_the_gate_passes_what_is_right_and_catches_what_is_not(world):
    shape = Shape("f1", "reference", "/Observation?patient=Patient/{patient}", ("patient",), {})

    assert judged(world, shape, searchset("o")) == ("right", "")
    assert judged(world, shape, searchset("o", "x"))[1].startswith("1 of 2 do not match")
    assert judged(world, shape, searchset("o", "o"))[1].startswith("a match appears twice")
    assert judged(world, shape, searchset())[1].startswith("0 matches and no next page")


def test_the_gate_compares_totals(world):
    shape = Shape("t7", "token", "/Observation?_total=accurate", (), {"none": 7})

    assert judged(world, shape, searchset(total=7))[0] == "right"
    assert judged(world, shape, searchset(total=8)) == ("wrong", "total 8, not 7")


def test_a_writer_touches_only_what_it_made(world):
    world.templates["Patient"] = [{"resourceType": "Patient", "active": True}]
    mix = steps.Mix({"create": 10, "read": 40, "update": 40, "delete": 10}, {"Patient": 100})
    writer = steps.Writer(Address.of("http://h:1/fhir"), world, mix, Random(3))
    alive, number, last = set(), 0, None
    for _ in range(500):
        request: Request = writer(last)
        target = request.data.split()[1].decode()
        id = target.removeprefix("/fhir/Patient").strip("/")
        last = Reply(200, b"HTTP/1.1 200", b"")
        if request.label in ("create", "prepare"):
            number += 1
            alive.add(f"n{number}")
            head = f"HTTP/1.1 201\r\nLocation: http://h/fhir/Patient/n{number}/_history/1"
            last = Reply(201, head.encode(), b"")
        else:
            assert id in alive
            if request.label == "delete":
                alive.remove(id)
    assert number > 10


def test_the_machine_is_told_beside_the_figures_and_left_as_it_was():
    core = machine.cores()[-1]
    before = machine.cores()

    told = calibrate(core).figures()

    assert machine.cores() == before
    assert list(told) == ["loop_ns", "decode_us", "factor"]
    assert min(told.values()) > 0


def test_twice_the_time_of_a_quiet_core_is_told_as_twice():
    assert Calibration(2 * QUIET.loop_ns, 2 * QUIET.decode_us).factor == pytest.approx(2)
    assert QUIET.factor == 1


def test_a_server_of_the_benchmarks_own_asks_for_a_token_and_the_benchmark_has_one():
    async def status(address, path):
        (reply,) = await ask(address, address.request("GET", path))
        return reply.status

    async def asked(server):
        await server.restart()
        stranger = server.address._replace(token="")
        return [await status(each, "/Patient") for each in (server.address, stranger)]

    with OwnServer(None) as server:
        assert asyncio.run(asked(server)) == [200, 401]
