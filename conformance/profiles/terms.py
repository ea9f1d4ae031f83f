"""The bindings and codes of a resource, asked once at the end of its validation.

https://hl7.org/fhir/R4/terminologies.html#strength
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from conformance.profiles.rules import listed
from conformance.profiles.run import Asked, Lacking, ProfileRun, outside
from conformance.validator.rules import Rule

_DISPLAY = Rule(
    "warning",
    "code-invalid",
    "The display is not one that the code system gives to this code: use its own, or leave it out",
)


def ask(run: ProfileRun) -> None:
    """Ask what was collected, and tell what is not as it should be."""
    for each in run.asked:
        _binding(each, run)
    for coding in run.session.codings:
        _coding(coding, run)


def _binding(asked: Asked, run: ProfileRun) -> None:
    bound = asked.bound
    if not bound.required and run.advice is None:
        return
    answer = outside(run.session.codes, asked)
    if answer:
        run.add(asked.holder, asked.at, bound.broken)
    elif answer is None and run.advice is not None:
        needed = _needed(asked.value, run.session.codes.lacking(bound.value_set))
        run.add(asked.holder, asked.at, _unsure(bound.unsure, needed))


def _needed(value: Any, lacking: Lacking) -> tuple[str, ...]:
    """What is to be installed for a value: of several code systems those that it names."""
    systems = lacking.systems
    if len(systems) > 1:
        systems = sorted(_systems(value).intersection(systems) or systems)
    return (*lacking.sets, *systems)


@lru_cache(maxsize=1024)
def _unsure(unsure: Callable[[Sequence[str]], Rule], lacking: tuple[str, ...]) -> Rule:
    """Said of many values, and worded once."""
    return unsure(lacking)


def _systems(value: Any) -> set[str]:
    """The code systems that a coded value names."""
    if type(value) is not dict:
        return set()
    codings = value.get("coding")
    of = codings if type(codings) is list else [value]
    named = (each.get("system") for each in of if type(each) is dict)
    return {each for each in named if type(each) is str}


def _coding(coding: dict[str, Any], run: ProfileRun) -> None:
    system, code, display = coding.get("system"), coding.get("code"), coding.get("display")
    if type(system) is not str or type(code) is not str:
        return
    codes, version = run.session.codes, coding.get("version")
    if type(version) is str:
        known = codes.known(system, code, version)
        if known is not None:
            system = f"{system}|{version}"
        elif versions := codes.versions(system):
            if version not in versions:
                run.add(coding, "version", _other_version(system, versions))
            return
    else:
        known = codes.known(system, code)
    if known is False:
        run.add(coding, "code", _unknown(system if "|" in system else codes.named(system)))
    elif (
        type(display) is str
        and run.advice is not None
        and codes.display_matches(system, code, display) is False
    ):
        run.add(coding, "display", _DISPLAY)


def _unknown(system: str) -> Rule:
    """Only of a system whose codes are known: its url is then nothing that the resource made up."""
    return Rule("error", "code-invalid", f"{system} does not have this code: use one that it has")


def _other_version(system: str, versions: Sequence[str]) -> Rule:
    """Likewise only of a system that is known."""
    text = (
        f"{system} is known here as version {listed(versions)} only, so the code was not checked:"
        " correct the version, or leave it out"
    )
    return Rule("warning", "not-found", text)
