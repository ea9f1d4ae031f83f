"""The rules of the BALP profiles as data (tests/spec/balp.json), held against events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

_FILE = Path(__file__).parent.parent / "spec" / "balp.json"
PROFILES: dict[str, Any] = json.loads(_FILE.read_text())["profiles"]
URL = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/"
_STRANGE: dict[type, Any] = {str: "~", bool: None, dict: {"system": "urn:strange", "code": "~"}}

Event = dict[str, Any]


class Rule(NamedTuple):
    """One rule of a profile. `id` is an element, in one slice where there is a colon."""

    profile: str
    id: str
    min: int
    max: int | str
    pattern: Any = None
    codes: tuple[Any, ...] = ()
    target: str | None = None

    @property
    def slice(self) -> tuple[str, str] | None:
        """The list that is sliced, and the slice's name."""
        name = self.id.partition(".")[0]
        element, colon, part = name.partition(":")
        return (element, part) if colon else None


def rules(profile: str) -> list[Rule]:
    """All rules of a profile, those of its base included."""
    told = PROFILES[profile]
    own = [
        Rule(profile, **{**each, "codes": tuple(each.get("codes", ()))}) for each in told["rules"]
    ]
    above = (
        [each._replace(profile=profile) for each in rules(told["base"])] if "base" in told else []
    )
    return above + own


def claimed(event: Event) -> set[str]:
    """The profiles that an event claims, without what their URLs have in common."""
    return {each.removeprefix(URL) for each in event["meta"].get("profile", ())}


def holds(rule: Rule, event: Event) -> bool:
    """Whether an event obeys a rule."""
    return all(_fits(rule, found) for found in _places(rule, event))


def _fits(rule: Rule, found: list[Any]) -> bool:
    if len(found) < rule.min or (rule.max != "*" and len(found) > int(rule.max)):
        return False
    return all(_matches(rule, each) for each in found)


def _matches(rule: Rule, value: Any) -> bool:
    if rule.pattern is not None and not covers(value, rule.pattern):
        return False
    if rule.codes and not any(_has_code(value, each) for each in rule.codes):
        return False
    return rule.target is None or value["reference"].startswith(f"{rule.target}/")


def covers(value: Any, pattern: Any) -> bool:
    """Whether a value has all that a pattern has; of lists, each member somewhere."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and covers(value[name], each) for name, each in pattern.items()
        )
    if isinstance(pattern, list):
        return all(any(covers(one, each) for one in value) for each in pattern)
    return bool(value == pattern)


def _has_code(value: Any, coding: Any) -> bool:
    return covers(value, coding) or any(covers(each, coding) for each in value.get("coding", ()))


def _places(rule: Rule, event: Event) -> Iterator[list[Any]]:
    """What stands at the rule's element: once for the event, or once for each member of a slice."""
    first, *path = rule.id.split(".")
    if rule.slice is None:
        yield _at([event], [first, *path])
        return
    members = _members(rule, event)
    if not path:
        yield members
        return
    for each in members:
        yield _at([each], path)


def _members(rule: Rule, event: Event) -> list[Any]:
    element, name = rule.slice or ("", "")
    every = rules(rule.profile)
    if element == "subtype":
        told = next(each for each in every if each.id == f"subtype:{name}")
        return [one for one in event["subtype"] if _matches(told, one)]
    told = next(each for each in every if each.id == f"{element}:{name}.type")
    found = [one for one in event.get(element, ()) if "type" in one]
    return [one for one in found if _matches(told, one["type"])]


def _at(values: list[Any], path: list[str]) -> list[Any]:
    for name in path:
        values = [found for each in values for found in _children(each, name)]
    return values


def _children(value: Any, name: str) -> list[Any]:
    """The values of an element; one of which only an extension is there counts too."""
    found = value.get(name, value.get(f"_{name}"))
    return found if isinstance(found, list) else [] if found is None else [found]


# --- breaking ------------------------------------------------------------------------------------


def broken(rule: Rule, event: Event) -> Event | None:
    """A copy of an event that breaks one rule; None where a rule cannot be broken alone: what tells
    a slice tells whether the rest is looked at."""
    made = deepcopy(event)
    first, *path = rule.id.split(".")
    element = first.partition(":")[0]
    if rule.slice is None or not path:
        return _broken_here(rule, made, element)
    if path == ["type"]:
        return None
    owners = _at(_members(rule, made), path[:-1])
    if not owners:
        return None
    if rule.max == 0:
        owners[0][path[-1]] = [{}]
    elif rule.min and not rule.codes and rule.pattern is None and rule.target is None:
        owners[0].pop(path[-1], None)
        owners[0].pop(f"_{path[-1]}", None)
    elif rule.target is not None:
        owners[0][path[-1]] = {"reference": "Group/1"}
    else:
        owners[0][path[-1]] = _STRANGE[type(owners[0].get(path[-1], {}))]
    return made


def _broken_here(rule: Rule, made: Event, element: str) -> Event | None:
    if rule.slice is not None:
        members = _members(rule, made)
        if rule.max != "*" and members:
            made[element].append(deepcopy(members[0]))
        elif rule.min:
            made[element] = [each for each in made[element] if each not in members]
        else:
            return None
    elif rule.pattern is not None:
        made[element] = _STRANGE[type(made[element])]
    elif isinstance(made[element], list):
        made[element] = made[element][: rule.min - 1]
    else:
        del made[element]
    return made
