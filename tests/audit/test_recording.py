"""What happens to reads when their audit cannot be written: refused, or by the operator's word
answered and recorded elsewhere; and what a buffered audit promises."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from fhir_server.audit.break_glass import BreakGlass
from fhir_server.storage.memory import MemoryStore
from fhir_server.storage.sealed import Damaged
from fhir_server.storage.store import EVENTS, EVERYTHING, Event, StoreError, Unavailable
from tests.derived_keys import DerivedKeys
from tests.living import Living

TAG = {"system": "urn:salus:audit", "code": "break-glass"}


class FullDisk:
    """Lets no file of a server grow beyond what it is, as a full disk would, until it is freed."""

    def __init__(self, server: Living, size: int = 64 * 1024) -> None:
        self._pid, self._size = server.process.pid, size

    def __enter__(self):
        self._before = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (self._size, self._before[1]))

    def __exit__(self, *_):
        with suppress(ProcessLookupError):  # it was killed meanwhile
            resource.prlimit(self._pid, resource.RLIMIT_FSIZE, self._before)


def started(folder: Path, **environment: str) -> Living:
    return Living(folder, **environment).start()


def patient(fhir: httpx.Client, id: str, **beside: object) -> int:
    resource = {"resourceType": "Patient", "id": id, **beside}
    return fhir.put(f"/Patient/{id}", json=resource).status_code


def fill(fhir: httpx.Client) -> None:
    """Enough that the journal is longer than what a full disk lets grow."""
    text = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}
    for number in range(40):
        assert patient(fhir, f"p{number}", text=text) in (200, 201)


def test_without_room_for_its_audit_a_read_is_refused_and_served_again_when_there_is(tmp_path):
    server = started(tmp_path)
    with server.client() as fhir:
        fill(fhir)
        before = fhir.get("/AuditEvent?_summary=count").json()["total"]
        with FullDisk(server):
            refused = [
                fhir.get("/Patient/p1"),
                fhir.get("/Patient?_id=p1"),
                fhir.get("/Patient/p1/_history"),
                fhir.put("/Patient/p1", json={"resourceType": "Patient", "id": "p1"}),
                fhir.get("/Patient/unknown"),
            ]
        served = fhir.get("/Patient/p1")
        events = fhir.get("/AuditEvent?_summary=count").json()["total"]
    assert server.stop() == 0

    for answer in refused:
        assert answer.status_code == 503, answer.text
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["issue"][0]["code"] == "transient"
        assert "p1" not in answer.text
    assert served.json()["meta"]["versionId"] == "1"
    assert events == before + 2  # the count before, and the one read that was served


def test_with_broken_glass_reads_go_on_and_their_audit_is_merged_and_marked(tmp_path):
    glass = tmp_path / "elsewhere" / "glass.log"
    glass.parent.mkdir()
    server = started(tmp_path, SALUS_BREAK_GLASS_LOG=str(glass))
    with server.client() as fhir:
        fill(fhir)
        with FullDisk(server):
            read = fhir.get("/Patient/p1")
            write = patient(fhir, "p1", active=True)
            lines = glass.read_bytes()
        _wait_until_merged(glass)
        events = fhir.get(f"/AuditEvent?_tag={TAG['system']}|{TAG['code']}").json()["entry"]
        untagged = fhir.get("/AuditEvent?entity=Patient/p2").json()["entry"]
    assert server.stop() == 0

    assert (read.status_code, write) == (200, 503)
    assert b"p1" not in lines
    assert b"Patient" not in lines
    assert list(glass.parent.iterdir()) == []
    seen = [_seen(each["resource"]) for each in events]
    assert ("R", "0", ["Patient/p1"]) in seen
    assert all(TAG.items() <= each["resource"]["meta"]["tag"][0].items() for each in events)
    assert not any("tag" in each["resource"]["meta"] for each in untagged)
    assert "elsewhere/glass.log" in server.log.read_text()  # the start says that it is on


def test_a_break_glass_log_that_a_crash_left_is_merged_at_the_next_start(tmp_path):
    glass = tmp_path / "glass.log"
    server = started(tmp_path, SALUS_BREAK_GLASS_LOG=str(glass))
    with server.client() as fhir:
        fill(fhir)
        with FullDisk(server):
            assert fhir.get("/Patient/p7").status_code == 200
            server.kill()
    assert glass.exists()

    server.start()
    with server.client() as fhir:
        found = fhir.get("/AuditEvent?entity=Patient/p7&action=R").json()["entry"]
    assert server.stop() == 0
    assert [each["resource"]["meta"]["tag"][0]["code"] for each in found] == ["break-glass"]
    assert not glass.exists()
    assert list(tmp_path.glob("glass.log*")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], lines[1][:-2] + (b"1\n" if lines[1][-2:-1] == b"0" else b"0\n")],
        lambda lines: [lines[1], lines[0]],
        lambda lines: lines[1:],
    ],
    ids=["a digit is changed", "lines change places", "the first is gone"],
)
def test_a_break_glass_log_that_was_changed_is_refused_by_name_and_kept(tmp_path, damage):
    glass, keys = tmp_path / "glass.log", DerivedKeys()

    async def story():
        first = BreakGlass(glass, keys, MemoryStore())
        await first.open()
        await first.append([_event(1), _event(2)])
        await first.close()
        written = glass.read_bytes()
        glass.write_bytes(b"".join(damage(written.splitlines(keepends=True))))
        with pytest.raises(
            Damaged, match=r"Line [12] of .*glass.log.merging is not as it was written"
        ):
            await BreakGlass(glass, keys, MemoryStore()).open()
        aside = tmp_path / "glass.log.merging"
        assert aside.exists()
        aside.write_bytes(written + written[:70])  # cut short by a crash: never acknowledged
        store = MemoryStore()
        assert await BreakGlass(glass, keys, store).open() == 2
        assert await store.transaction(lambda tx: tx.count(EVENTS, EVERYTHING)) == 2

    asyncio.run(story())


def test_a_place_where_no_file_can_be_is_refused_at_the_start(tmp_path):
    async def story():
        with pytest.raises(StoreError, match="name a file in a folder that is there"):
            await BreakGlass(tmp_path / "absent" / "glass.log", DerivedKeys(), MemoryStore()).open()
        await BreakGlass(tmp_path / "glass.log", DerivedKeys(), MemoryStore()).open()
        assert list(tmp_path.iterdir()) == []

    asyncio.run(story())


def test_what_was_merged_is_not_merged_twice(tmp_path):
    glass, keys, store = tmp_path / "glass.log", DerivedKeys(), MemoryStore()

    async def story():
        first = BreakGlass(glass, keys, store)
        await first.open()
        await first.append([_event(1)])
        await first.close()
        written = glass.read_bytes()
        assert await BreakGlass(glass, keys, store).open() == 1
        # As after a crash between the commit and the removal of the file.
        (tmp_path / "glass.log.merging").write_bytes(written)
        assert await BreakGlass(glass, keys, store).open() == 0
        assert list(tmp_path.iterdir()) == []

    asyncio.run(story())


def test_a_file_that_cannot_be_set_aside_is_merged_once_all_the_same(tmp_path, monkeypatch):
    glass, keys, store = tmp_path / "glass.log", DerivedKeys(), MemoryStore()
    real, refusals = Path.replace, [OSError(28, "No space left on device")]

    def replace(path, to):
        if refusals:
            raise refusals.pop()
        return real(path, to)

    async def story():
        log = BreakGlass(glass, keys, store)
        await log.open()
        await log.append([_event(1), _event(2)])
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", replace)
            with pytest.raises(Unavailable, match="cannot be renamed"):
                await log.merge()
            await log.append([_event(3)])
            assert await log.merge() == 3
        await log.append([_event(4)])
        assert await log.merge() == 1
        await log.close()
        assert await store.transaction(lambda tx: tx.count(EVENTS, EVERYTHING)) == 4

    asyncio.run(story())


def test_the_key_of_a_file_goes_when_it_is_merged(tmp_path):
    glass, keys, gone = tmp_path / "glass.log", DerivedKeys(), []

    async def story():
        log = BreakGlass(glass, keys, MemoryStore(), lambda ids, why: gone.extend(ids))
        await log.open()
        await log.append([_event(1)])
        written = glass.read_bytes()
        await log.merge()
        await log.close()
        assert [each.hex().encode() for each in gone] == [written[:16]]

    asyncio.run(story())


def _event(at: int) -> Event:
    return Event(at, b'{"resourceType":"AuditEvent","id":"', b'","action":"R"}', ())


def test_a_buffered_audit_answers_at_once_loses_nothing_at_a_stop_and_warns_at_the_start(tmp_path):
    server = started(tmp_path, SALUS_AUDIT_READS="buffered")
    with server.client() as fhir:
        assert patient(fhir, "p1") == 201
        for _ in range(50):
            assert fhir.get("/Patient/p1").status_code == 200
    assert server.stop() == 0
    assert "a crash loses the trace" in server.log.read_text()

    server.environment.pop("SALUS_AUDIT_READS")
    server.start()
    with server.client() as fhir:
        reads = fhir.get("/AuditEvent?entity=Patient/p1&action=R&_summary=count").json()["total"]
    assert server.stop() == 0
    assert reads == 50


def _wait_until_merged(glass: Path) -> None:
    until = time.monotonic() + 30
    while list(glass.parent.glob("glass.log*")):
        assert time.monotonic() < until, "the break-glass log was not merged"
        time.sleep(0.2)


def _seen(event: dict) -> tuple[str, str, list[str]]:
    named = [each.get("what", {}).get("reference") for each in event.get("entity", ())]
    return event["action"], event["outcome"], [each for each in named if each][:1]
