"""`salus reindex`: what is searched by beyond R4's parameters, and entries made anew.

https://hl7.org/fhir/R4/searchparameter.html
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import msgspec
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from salus.commands.asking import Data, Json, Keys, answered
from salus.operator import requests
from salus.problem import Problem
from salus.settings import read_settings
from salus.terminal import err, explained, listing, option

_LOOK_SECONDS = 0.5  # between two questions how far it is


def reindex(
    parameter: Annotated[
        list[str] | None,
        option(help="Search parameter whose types to index anew: its url, code or Type.code."),
    ] = None,
    type: Annotated[list[str] | None, option(help="Resource type to index anew.")] = None,
    all: Annotated[bool, option("--all", help="Index every type anew.")] = False,
    wait: Annotated[
        bool, option("--wait/--no-wait", help="Wait until nothing is being indexed.")
    ] = True,
    json: Json = False,
    data: Data = None,
    keys: Keys = None,
) -> None:
    """Show what is searched by beyond R4's parameters, and index anew in the background.

    What answers goes on answering. Without a parameter, a type or --all nothing is begun, and what
    is being indexed is waited for.

    [bold]Examples[/]

      salus reindex

      salus reindex --type Patient --type Observation

      salus reindex --parameter http://hl7.org/fhir/us/core/SearchParameter/us-core-race
    """
    from salus.operator.running import holder

    with explained():
        alone = holder(read_settings(data=data, keys=keys).data) is None
        urls = tuple(url for each in parameter or () for url in _urls(each, data, keys))
        asked = requests.Reindex(urls, tuple(type or ()), all, alone and wait)
        shown = answered(data, keys, asked, requests.Reindexed)
        if wait and shown.building:
            shown = _waited(data, keys, shown)
    if json:
        print(msgspec.json.format(msgspec.json.encode(shown)).decode())
        return
    columns = ("Type", "Code", "State", "From", "Not indexed", "Url or why")
    listing(columns, [_row(each) for each in shown.parameters])
    for name, done, total in shown.building:
        err.print(f"{name} is being indexed: {done:,} of about {total:,} resources")


def _urls(named: str, data: Path | None, keys: Path | None) -> list[str]:
    """The urls of the parameters that a url, a code or Type.code means. Problem for none."""
    if ":" in named:
        return [named]
    there = answered(data, keys, requests.Reindex(), requests.Reindexed).parameters
    found = {each.url for each in there if named in (each.code, f"{each.type}.{each.code}")}
    if not found:
        raise Problem(
            f"No search parameter beyond R4's is called {named}: `salus reindex` lists them. One "
            "of R4 is named by its url, as http://hl7.org/fhir/SearchParameter/individual-gender"
        )
    return sorted(found)


def _row(each: requests.SearchedBy) -> tuple[str, ...]:
    failed = f"{each.failed:,}" if each.failed else ""
    return (each.type, each.code, each.state, each.origin, failed, each.why or each.url)


def _waited(data: Path | None, keys: Path | None, shown: requests.Reindexed) -> requests.Reindexed:
    """Ask until it is done, showing how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as bar:
        tasks: dict[str, TaskID] = {}
        while shown.building:
            for name, done, total in shown.building:
                if name not in tasks:
                    tasks[name] = bar.add_task(name)
                bar.update(tasks[name], completed=done, total=total)
            for name in tasks.keys() - {name for name, _, _ in shown.building}:
                bar.update(tasks[name], completed=1, total=1)
            time.sleep(_LOOK_SECONDS)
            shown = answered(data, keys, requests.Reindex(), requests.Reindexed)
    return shown
