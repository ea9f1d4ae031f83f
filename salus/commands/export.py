"""`salus export`: ask a server for a bulk export, wait for it, and fetch and count its files.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from salus.load.command import Goal, goal
from salus.problem import Problem
from salus.settings import read_settings
from salus.terminal import err, explained, option
from salus.tls import distrust, trusting

_SECONDS = 300.0  # for one answer
_PREFER = {"Prefer": "respond-async", "Accept": "application/fhir+json"}
_MANIFEST = "manifest.json"
_KINDS = ("output", "deleted", "error")  # of files in a manifest
_BUSY = frozenset({429, 502, 503, 504})  # statuses that may pass by waiting


class Asked(NamedTuple):
    """What to export: below `path` of the FHIR base ("", Patient, Group/1), to a folder, of which
    an earlier export may be replaced."""

    path: str
    types: tuple[str, ...]
    since: str | None
    folder: Path
    overwrite: bool = False


def export(
    types: Annotated[
        list[str] | None, typer.Argument(help="Resource types; all that may be exported.")
    ] = None,
    output: Annotated[
        Path, option("-o", "--output", help="Folder for the files; made if it is not there.")
    ] = Path("export"),
    overwrite: Annotated[
        bool, option("--overwrite", help="Replace the earlier export in that folder.")
    ] = False,
    of: Annotated[
        str, option(help="Whose data: Patient for all patients, Group/ID [everything].")
    ] = "",
    since: Annotated[
        str | None, option(help="Only what changed since this instant (a transactionTime).")
    ] = None,
    url: Annotated[str | None, option(help="FHIR base [that of the data folder's server].")] = None,
    data: Annotated[
        Path | None, option(help="Export from the server that has this data folder.")
    ] = None,
    keys: Annotated[Path | None, option(help="Folder of its keys [SALUS_KEYS].")] = None,
    token: Annotated[
        str | None,
        option(
            help="Access token [SALUS_TOKEN; the operator's own, where we can read the server's "
            "data and keys].",
            envvar="SALUS_TOKEN",
            show_envvar=False,
        ),
    ] = None,
    ca: Annotated[Path | None, option(help="Certificate to trust as well (PEM).")] = None,
) -> None:
    """Export resources in bulk from a running server, of one moment, to files of NDJSON.

    Each file is counted against the manifest, which is kept beside them. The files are readable for
    you alone; keep them so. Exit code 0: all is there; 1: something is not; 2: the export did not
    come to its end, and why.

    [bold]Examples[/]

      salus export -o ./all

      salus export -o ./all --overwrite

      salus export Patient Observation --of Group/ward -o ./ward --url https://fhir.example/fhir
    """
    asked = Asked(of.strip("/"), tuple(types or ()), since, output, overwrite)
    with explained():
        _require_empty(asked)
        settings = read_settings(data=data, keys=keys)
        where = goal(settings, url, data is not None, token, ca)
        if where is None:
            raise Problem("No server has this data folder: start it with `salus serve`")
        complete = _exported(where, asked, err)
    if not complete:
        raise typer.Exit(1)


def _exported(where: Goal, asked: Asked, console: Console) -> bool:
    """Export; whether everything of the manifest came. Problem."""
    shown = {"Authorization": f"Bearer {where.token}"} if where.token else {}
    with httpx.Client(
        headers=shown, timeout=_SECONDS, trust_env=False, verify=trusting(where.ca)
    ) as client:
        try:
            place = _begun(client, where.url, asked)
            try:
                manifest = _waited(client, place, console)
                _require_same_place(where.url, manifest)
                _cleared(asked.folder)
                complete = _fetched(client, manifest, asked.folder, console)
            finally:
                _forgotten(client, place)
        except httpx.HTTPError as error:
            raise Problem(_unreached(where.url, error)) from None
        except OSError as error:
            raise Problem(f"{asked.folder} cannot hold the files: {error.strerror}") from None
    return complete


def _unreached(base: str, error: httpx.HTTPError) -> str:
    """Why there is no answer, and what to do."""
    if why := distrust(base, error):
        return why
    return (
        f"No server answers at {base} ({str(error) or type(error).__name__}): start it with `salus "
        "serve`, or name another with --url, or with --data the folder that one has"
    )


def _forgotten(client: httpx.Client, place: str) -> None:
    """End the job: nobody else knows of it, and a server keeps only so many."""
    with suppress(httpx.HTTPError):
        client.delete(place)


def _begun(client: httpx.Client, base: str, asked: Asked) -> str:
    """The place of the status."""
    query = {"_type": ",".join(asked.types)} if asked.types else {}
    if asked.since:
        query["_since"] = asked.since
    path = "/".join(each for each in (base.rstrip("/"), asked.path, "$export") if each)
    answer = client.get(path, params=query, headers=_PREFER)
    if answer.status_code == 404 and "fhir" not in answer.headers.get("content-type", ""):
        raise Problem(f"{base} is no FHIR base (status 404): it is often below /fhir")
    if answer.status_code != 202:
        raise Problem(f"The server does not begin an export: {_said(answer)}")
    return answer.headers["content-location"]


def _waited(client: httpx.Client, place: str, console: Console) -> dict[str, Any]:
    """The manifest, when it is there."""
    with console.status("collecting") as status:
        while True:
            answer = client.get(place, headers={"Accept": "application/json"})
            if answer.status_code == 200:
                found: dict[str, Any] = answer.json()
                return found
            if answer.status_code != 202 and answer.status_code not in _BUSY:
                raise Problem(f"The export ended early: {_said(answer)}")
            status.update(f"collecting: {answer.headers.get('x-progress', 'waiting')}")
            time.sleep(float(answer.headers.get("retry-after", 1)))


def _require_same_place(base: str, manifest: dict[str, Any]) -> None:
    """Our token goes to no other host. Problem."""
    here = urlsplit(base)[:2]
    for each in (e for kind in _KINDS for e in manifest.get(kind, ())):
        if urlsplit(each["url"])[:2] != here:
            raise Problem(f"The server sends us elsewhere for a file: {each['url']}")


def _require_empty(asked: Asked) -> None:
    """Files of two moments are not mixed, and none is lost unasked. Problem."""
    if not asked.overwrite and (asked.folder / _MANIFEST).exists():
        raise Problem(
            f"{asked.folder} has an export already: name another folder, or --overwrite it"
        )


def _cleared(folder: Path) -> None:
    """Remove what the manifest of an earlier export names, and then that."""
    try:
        manifest = json.loads((folder / _MANIFEST).read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        raise Problem(f"{folder / _MANIFEST} is no manifest: name another folder") from None
    for each in (e for kind in _KINDS for e in manifest.get(kind, ())):
        (folder / _name(each["url"])).unlink(missing_ok=True)
    (folder / _MANIFEST).unlink()


def _name(url: str) -> str:
    """That of the file in the folder."""
    return Path(url.rpartition("/")[2]).name


def _fetched(
    client: httpx.Client, manifest: dict[str, Any], folder: Path, console: Console
) -> bool:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = [*manifest["output"], *manifest.get("deleted", ()), *manifest.get("error", ())]
    _write(folder / _MANIFEST, json.dumps(manifest, indent=2).encode())
    complete = not manifest.get("error")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} resources"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("fetching", total=sum(each.get("count", 0) for each in files))
        for each in files:
            lines = _file(client, each["url"], folder, lambda n: bar.advance(task, n))
            if "count" in each and each["count"] != lines:
                console.print(
                    f"{each['url']}: {lines} lines, and the manifest says {each['count']}"
                )
                complete = False
    count = sum(each.get("count", 0) for each in manifest["output"])
    told = f"{count:,} resources in {folder}, as of {manifest['transactionTime']}"
    console.print(told, highlight=False, soft_wrap=True)
    return complete


def _file(client: httpx.Client, url: str, folder: Path, counted: Any) -> int:
    """Fetch one file; how many lines it has."""
    name = _name(url)
    partial, lines = folder / f"{name}.part", 0
    with client.stream("GET", url, headers={"Accept": "application/fhir+ndjson"}) as answer:
        if answer.status_code != 200:
            answer.read()
            raise Problem(f"{url}: {_said(answer)}")
        with _opened(partial) as file:
            for part in answer.iter_bytes():
                file.write(part)
                count = part.count(b"\n")
                lines += count
                counted(count)
    partial.replace(folder / name)
    return lines


def _write(path: Path, content: bytes) -> None:
    with _opened(path) as file:
        file.write(content)


def _opened(path: Path) -> Any:
    """A file to write that is for its owner alone."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _said(answer: httpx.Response) -> str:
    """What the server says went wrong."""
    try:
        issues = answer.json()["issue"]
        return f"{answer.status_code}, {issues[0].get('diagnostics', issues[0]['code'])}"
    except (ValueError, KeyError, IndexError, TypeError):
        return f"status {answer.status_code}"
