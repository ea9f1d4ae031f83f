"""Scripts as they are found: a file, a folder of them, and the fixtures beside them.

https://hl7.org/fhir/R4/testscript.html#fixtures
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from conformance.definitions import load
from conformance.json import parse
from conformance.outcome import FhirError
from conformance.testscript.message import ActionError
from conformance.xml import from_xml

MOST_BYTES = 16 * 1024 * 1024  # of a script or a fixture
MOST_FILES = 5000  # below a folder
_SUFFIXES = (".json", ".xml")
_SHELVES = ("", "fixtures", "resources", "_reference", "_reference/resources")
_LOGICAL = re.compile(r"([A-Z][A-Za-z]{1,40})/([A-Za-z0-9\-.]{1,64})")


class ScriptError(Exception):
    """What was named holds no script that can be run; its text says why."""


class Script(NamedTuple):
    """`group` is the folder below the suite; `shelves` are the folders where fixtures may be, and
    nowhere else. `fault` says why a file of a suite is none, and fails its only test."""

    resource: dict[str, Any]
    place: str
    group: str = ""
    shelves: tuple[Path, ...] = ()
    fault: str = ""

    @property
    def name(self) -> str:
        return str(self.resource.get("name") or self.resource.get("id") or self.place)

    @property
    def title(self) -> str:
        return str(self.resource.get("title") or self.name)

    @property
    def tests(self) -> Sequence[dict[str, Any]]:
        found: Sequence[dict[str, Any]] = self.resource.get("test") or ()
        return found


def suite(path: Path, fixtures: Sequence[Path] = ()) -> tuple[Script, ...]:
    """The scripts of a file, or of a folder and those below, by name; files of a folder that cannot
    be read are among them, each with its fault. `fixtures` are more folders in which fixtures are
    looked for. ScriptError."""
    if path.is_file():
        resource = _read(path)
        if resource.get("resourceType") != "TestScript":
            raise ScriptError(f"{path} is a {resource.get('resourceType')} and no TestScript")
        return (_script(path, path.parent, resource, fixtures),)
    if not path.is_dir():
        raise ScriptError(f"There is no file or folder {path}")
    found = tuple(_scripts(path, fixtures))
    if not found:
        raise ScriptError(f"There is no TestScript in {path}: it holds .json or .xml files of them")
    return found


def fixture(script: Script, reference: str) -> dict[str, Any]:
    """The resource that a script's fixture refers to: contained, or a file near it, by its path or
    as Type/id. ActionError."""
    if reference.startswith("#"):
        for each in script.resource.get("contained", ()):
            if each.get("id") == reference[1:]:
                # Its id is the script's, not one that a server is to keep it under.
                return {name: value for name, value in each.items() if name != "id"}
        raise ActionError(f"The script contains no resource {reference}")
    for path in _candidates(script, reference):
        if path.is_file():
            return _fixture_of(path)
    found = _LOGICAL.fullmatch(reference)
    for path in _files(script) if found else ():
        if (read := _told(path)) and (read["resourceType"], read.get("id")) == found.groups():  # type: ignore[union-attr]
            return read
    raise ActionError(
        f"The fixture {reference[:200]} is neither contained in the script nor a file near it"
    )


def _fixture_of(path: Path) -> dict[str, Any]:
    try:
        return _read(path)
    except ScriptError as error:
        raise ActionError(f"The fixture cannot be read: {error}") from None


def _candidates(script: Script, reference: str) -> Iterator[Path]:
    """Files that a reference may mean, never outside the folders of the suite."""
    plain = unquote(reference).removeprefix("./")
    dashed = plain.replace("/", "-")
    names = [plain, *(f"{stem}{suffix}" for stem in (plain, dashed) for suffix in _SUFFIXES)]
    names += [f"{dashed.lower()}{suffix}" for suffix in _SUFFIXES]
    for folder in script.shelves:
        for name in names:
            path = (folder / name).resolve()
            if any(path.is_relative_to(each.resolve()) for each in script.shelves):
                yield path


def _files(script: Script) -> Iterator[Path]:
    for folder in script.shelves:
        if folder.is_dir():
            yield from (each for each in sorted(folder.iterdir()) if each.suffix in _SUFFIXES)


def _told(path: Path) -> dict[str, Any] | None:
    try:
        return _read(path)
    except ScriptError:
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ScriptError(f"{path} has more than {MOST_BYTES} bytes")
        data = path.read_bytes()
        return from_xml(data) if path.suffix == ".xml" else parse(data)
    except OSError as error:
        raise ScriptError(f"{path} cannot be read: {error.strerror}") from None
    except FhirError as error:
        raise ScriptError(f"{path}: {error}") from None


def _scripts(folder: Path, fixtures: Sequence[Path]) -> Iterator[Script]:
    paths = [each for each in sorted(folder.rglob("*")) if each.suffix in _SUFFIXES]
    if len(paths) > MOST_FILES:
        raise ScriptError(f"{folder} holds more than {MOST_FILES} files")
    for path in paths:
        try:
            read = _read(path)
        except ScriptError as error:
            yield _faulty(path, folder, str(error))
            continue
        type = read.get("resourceType")
        if type == "TestScript":
            yield _script(path, folder, read, fixtures)
        elif type is not None and type not in load().types:
            # Perhaps a TestScript that is misspelt. Other resources are fixtures, other JSON is not
            # ours.
            yield _faulty(path, folder, f"{path}: {str(type)[:64]} is no resource type of R4")


def _faulty(path: Path, root: Path, fault: str) -> Script:
    """A file that cannot be run, as a script with one test: what is lost is counted."""
    name = path.relative_to(root).as_posix()
    resource = {"resourceType": "TestScript", "name": name, "test": [{"name": "can be read"}]}
    return _script(path, root, resource, ())._replace(fault=fault)


def _script(path: Path, root: Path, resource: dict[str, Any], fixtures: Sequence[Path]) -> Script:
    folders = [path.parent / each for each in _SHELVES]
    if path.parent != root:
        folders += [root / each for each in _SHELVES]
    relative = path.parent.relative_to(root)
    group = "" if relative == Path() else relative.as_posix()
    return Script(resource, path.name, group, (*folders, *fixtures))
