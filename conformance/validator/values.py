"""Members of an object: single or repeating, objects or primitives with their `_` partners.

https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

from typing import Any

from conformance.primitives import Check
from conformance.validator.rules import Checked, Member, Rule, Run, structure

_BARE = "has neither a value nor children"


def one_object(path: str, node: Checked) -> Member:
    """An object that does not repeat."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is dict and (len(value) > 1 or (value and "id" not in value)):
            node.check(value, run)
        else:
            run.add(holder, at, _no_object(path, value))

    return member


def many_objects(path: str, node: Checked) -> Member:
    """An array of objects."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is not list or not value:
            run.add(holder, at, no_array(path, value))
            return
        for item in value:
            if type(item) is dict and (len(item) > 1 or (item and "id" not in item)):
                node.check(item, run)
            else:
                run.add(value, _index(value, item), _no_object(path, item))

    return member


def one_primitive(path: str, legal: Check, rule: Rule) -> Member:
    """A primitive that does not repeat; `rule` says what a value must be."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if not legal(value):
            run.add(holder, at, _no_primitive(path, value, rule))

    return member


def many_primitives(path: str, legal: Check, rule: Rule) -> Member:
    """An array of primitives. null stands only where the `_` partner has something."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is not list or not value:
            run.add(holder, at, no_array(path, value))
            return
        for index, item in enumerate(value):
            if legal(item) or (item is None and _at(holder.get(f"_{at}"), index) is not None):
                continue
            run.add(value, index, _no_primitive(path, item, rule))

    return member


def one_partner(path: str, node: Checked) -> Member:
    """The `_` partner of a primitive: its id and extensions."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is not dict or not value:
            run.add(holder, at, _no_object(path, value))
            return
        node.check(value, run)
        if holder.get(at[1:]) is None and "extension" not in value:
            run.add(holder, at, _bare(path))

    return member


def many_partners(path: str, node: Checked) -> Member:
    """The `_` partners of a repeating primitive."""

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        if type(value) is not list or not value:
            run.add(holder, at, no_array(path, value))
            return
        values = holder.get(at[1:])
        for index, item in enumerate(value):
            if type(item) is dict and item:
                node.check(item, run)
                if "extension" not in item and _at(values, index) is None:
                    run.add(value, index, _bare(path))
            elif item is not None:
                run.add(value, index, _no_object(path, item))
            elif type(values) is not list or index >= len(values):
                run.add(value, index, _bare(path))

    return member


def forbidden(path: str) -> Member:
    """An element that a profile takes away."""
    rule = structure(f"`{path}` may not be used here")

    def member(value: Any, holder: Any, at: Any, run: Run) -> None:
        run.add(holder, at, rule)

    return member


def ignored(value: Any, holder: Any, at: Any, run: Run) -> None:
    """A member that was checked on the way to here: `resourceType`."""


def _at(values: Any, index: int) -> Any:
    return values[index] if type(values) is list and index < len(values) else None


def _index(values: list[Any], item: Any) -> int:
    return next(index for index, each in enumerate(values) if each is item)


def _bare(path: str) -> Rule:
    return Rule("error", "invariant", f"`{path}` {_BARE}", "ele-1")


def _no_object(path: str, value: Any) -> Rule:
    if type(value) is dict:
        return _bare(path)
    if type(value) is list:
        return structure(f"`{path}` does not repeat: it must be an object, not an array")
    return structure(f"`{path}` must be an object{_null(value)}")


def no_array(path: str, value: Any) -> Rule:
    if type(value) is list:
        return structure(f"`{path}` may not be an empty array: leave it out")
    return structure(f"`{path}` repeats: it must be an array{_null(value)}")


def _no_primitive(path: str, value: Any, rule: Rule) -> Rule:
    if type(value) is list:
        return structure(f"`{path}` does not repeat: it may not be an array")
    if value is None:
        return structure(f"`{path}` may not be null: leave it out")
    if type(value) is dict:
        return structure(f"`{path}` is a primitive: it may not be an object")
    return rule


def _null(value: Any) -> str:
    return ", not null: leave it out" if value is None else ""
