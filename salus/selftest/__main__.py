"""The shipped suites on a scratch server, told line by line: `python -m salus.selftest`. It ends
when its input does.

https://hl7.org/fhir/R4/testscript.html
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Lock, Thread
from time import perf_counter

import msgspec

from conformance.json import encode, pretty
from conformance.suites import shipped
from conformance.testscript import Engine, Part, Script, Target, html, junit
from conformance.testscript.html import cell
from salus.problem import Problem
from salus.selftest.lines import Cell, Done, Line, Plan, Planned, Trouble
from salus.selftest.reports import TITLE, collection
from salus.selftest.scratch import scratch

_NICE = 10  # whoever is served by this machine comes first


def main() -> None:
    """Run all suites once, and print a line for each thing that happens."""
    os.nice(_NICE)
    Thread(target=_end_with_input, daemon=True).start()
    scripts = list(shipped().values())
    _tell(Plan([Planned(each.title, [str(t["name"]) for t in each.tests]) for each in scripts]))
    try:
        with scratch() as ready:
            _run(scripts, Target({1: ready.url}, ready.token))
    except Problem as problem:
        _tell(Trouble(str(problem)))


def _run(scripts: list[Script], target: Target) -> None:
    start, at, lock = perf_counter(), {id(each): n for n, each in enumerate(scripts)}, Lock()
    done = dict.fromkeys(range(len(scripts)), 0)

    def told(script: Script, part: Part) -> None:
        if part.kind != "test":
            return
        with lock:
            number = at[id(script)]
            _tell(Cell(number, done[number], cell(part), part.seconds, part.reason))
            done[number] += 1

    runs = Engine(target).run_all(scripts, told=told)
    reports = pretty(encode(collection(runs))).decode()
    _tell(Done(perf_counter() - start, reports, junit(runs), html(runs, TITLE)))


def _tell(line: Line) -> None:
    print(msgspec.json.encode(line).decode(), flush=True)


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)  # so that what was begun is tidied up


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(1)
