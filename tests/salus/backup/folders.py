"""Data folders to back up and to compare: a small clinic, loaded as `salus load` does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path

from rich.console import Console

from fhir_server.storage.keys import FileKeys, page_key
from fhir_server.storage.sqlite.proving import Reading
from fhir_server.storage.sqlite.schema import FILE, connect
from fhir_server.storage.vault import Vault
from salus.backup.make import backup
from salus.backup.restore import restore
from salus.demo.clinic import clinic
from salus.load.command import load_into
from salus.settings import Settings

QUIET = Console(quiet=True)
NAMED = (
    "(SELECT k2.name || '/' || hex(x.id) FROM resource x JOIN kind k2 ON k2.k = x.type"
    " WHERE x.pk = {0})"
)
# What a store holds, by names instead of numbers: an index that was built anew has others.
CONTENTS = {
    "resource": "SELECT k.name, id, ver, t, updated, deleted, body, leaf,"
    f" {NAMED.format('r.owner')} FROM resource r JOIN kind k ON k.k = r.type WHERE ver > 0",
    "old": f"SELECT t, ver, updated, deleted, body, leaf, {NAMED.format('r.pk')} FROM old r",
    "event": "SELECT * FROM event",
    "kept": "SELECT space, key, value, revision, until FROM kept",
    "sealing": "SELECT * FROM sealing",
    "token": "SELECT k.name, p.param, s.name, v.code,"
    f" iif(t.pk < 0, t.pk, {NAMED.format('t.pk')}) FROM token t JOIN param p USING (p)"
    " JOIN kind k ON k.k = p.type JOIN value v ON v.v = t.v JOIN system s ON s.s = v.s",
    "text": f"SELECT k.name, p.param, w.text, w.code, {NAMED.format('t.pk')} FROM text t"
    " JOIN phrase w USING (w) JOIN param p ON p.p = w.p JOIN kind k ON k.k = p.type",
    "range": "SELECT k.name, p.param, p.shape, low, high, s.name, v.code,"
    f" {NAMED.format('t.pk')} FROM range t JOIN param p USING (p) JOIN kind k ON k.k = p.type"
    " JOIN value v ON v.v = t.unit JOIN system s ON s.s = v.s",
    "link": f"SELECT k.name, p.param, at, iif(dst < 0, dst, {NAMED.format('l.dst')}),"
    f" iif(src < 0, src, {NAMED.format('l.src')}) FROM link l JOIN param p USING (p)"
    " JOIN kind k ON k.k = p.type",
}


def settings_of(folder: Path, data: str = "data", keys: str = "keys") -> Settings:
    return Settings(data=folder / data, keys=folder / keys)


def clinic_in(folder: Path, patients: int = 2, first: int = 0, data: str = "data") -> Settings:
    """A folder with an invented clinic, or with what comes after the `first` of its Bundles."""
    lines = [json.dumps(each, default=float) for each in clinic(patients, date(2026, 1, 1))]
    source = folder / f"clinic-{first}.ndjson"
    source.write_text("\n".join(lines[first:]))
    made = settings_of(folder, data)
    report = load_into([source], made, None, folder / "failed", 2, QUIET)
    assert report.complete
    return made


def group_in(folder: Path, people: list[tuple[str, str]]) -> None:
    """A Group of people, of whom it tells the names."""
    members = [{"entity": {"reference": f"Patient/{id}", "display": name}} for id, name in people]
    group = {"resourceType": "Group", "type": "person", "actual": True, "member": members}
    source = folder / "group.ndjson"
    source.write_text(json.dumps(group))
    assert load_into([source], settings_of(folder), None, folder / "failed", 1, QUIET).complete


def copied(folder: Path, to: Path) -> Settings:
    """Data and keys of a folder, in another."""
    for name in ("data", "keys"):
        shutil.copytree(folder / name, to / name)
    return settings_of(to)


def saved(settings: Settings, to: Path):
    return backup(settings, to, lambda done, total: None)


def back(settings: Settings, file: Path, log_of: Path | None = None):
    return restore(settings, file, log_of, lambda what, done, total: None)


def opened(settings: Settings):
    pages = page_key(settings.data, FileKeys(settings.keys))
    return closing(connect(settings.data / FILE, pages, writes=False))


def contents(settings: Settings) -> dict[str, list[str]]:
    with opened(settings) as conn:
        return {name: sorted(map(repr, conn.execute(sql))) for name, sql in CONTENTS.items()}


def everything(settings: Settings) -> bytes:
    """Every value of every row, and every body that can be opened, as bytes to search in."""
    pages = page_key(settings.data, FileKeys(settings.keys))
    vault = Vault.open(settings.keys, FileKeys(settings.keys))
    found = []
    with closing(vault), opened(settings) as conn:
        tables = [
            name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
        for table in tables:
            if table != "dictionary":  # bytes that were in the program before any patient was
                found += [repr(row).encode() for row in conn.execute(f"SELECT * FROM {table}")]
        with closing(Reading(settings.data, pages, vault)) as reading:
            found += [each.content + (each.apart or b"") for each in reading.records()]
    return b"\n".join(found)


PROGRAM = """
import os, signal, sys
from pathlib import Path
from salus.backup.make import backup
from salus.backup.restore import restore
from salus.settings import Settings
kind, file, data, keys, when, count = sys.argv[1:]
seen = 0
def told(*said):
    global seen
    what = said[0] if kind == "restore" else "backup"
    seen += what == when
    if what == when and seen > int(count):
        os.kill(os.getpid(), signal.SIGKILL)
settings = Settings(data=Path(data), keys=Path(keys))
if kind == "backup":
    backup(settings, Path(file), told)
else:
    restore(settings, Path(file), None, told)
"""


def killed(
    kind: str, file: Path, settings: Settings, when: str, count: int = 0
) -> subprocess.Popen:
    """A backup or restore in a process that is killed when it tells of something again."""
    arguments = [kind, file, settings.data, settings.keys, when, count]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, arguments)])
