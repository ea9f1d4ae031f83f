"""The parameters of a terminology operation, by name and type, from Parameters or a query.

https://hl7.org/fhir/R4/parameters.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from conformance.outcome import FhirError
from terminology.shapes import CODED, require, require_shape

_READ = frozenset({"tx-resource", "valueSet", "codeSystem", "conceptMap"})
_FLAGS = {"true": True, "false": False}
_LONGEST = 4_096  # characters of a text
_MOST = 200  # texts of one name


class Given(NamedTuple):
    """One parameter: its value, its resource or its parts."""

    value: Any = None
    resource: Mapping[str, Any] | None = None
    parts: tuple[tuple[str, Given], ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What an operation is asked. `language` is what the request's Accept-Language says."""

    given: Mapping[str, tuple[Given, ...]] = field(default_factory=dict)
    language: str | None = None

    @staticmethod
    def of(parameters: Mapping[str, Any] | None, language: str | None = None) -> Asked:
        """From a Parameters resource. FhirError for what is none."""
        if parameters is None:
            return Asked({}, language)
        if parameters.get("resourceType") != "Parameters":
            raise FhirError("invalid", "This operation takes Parameters in its body")
        return Asked.named(_given(parameters.get("parameter", ())), language)

    @staticmethod
    def query(pairs: Iterable[tuple[str, str]], language: str | None = None) -> Asked:
        """From the names and values of a query."""
        return Asked.named(((name, Given(value)) for name, value in pairs), language)

    @staticmethod
    def named(pairs: Iterable[tuple[str, Given]], language: str | None = None) -> Asked:
        found: dict[str, list[Given]] = {}
        for name, given in pairs:
            found.setdefault(name, []).append(given)
        return Asked({name: tuple(several) for name, several in found.items()}, language)

    def also(self, **values: object) -> Asked:
        """This with a few more values, dashes in names written as underscores."""
        more = {name.replace("_", "-"): (Given(value),) for name, value in values.items()}
        return Asked({**self.given, **more}, self.language)

    def text(self, name: str) -> str | None:
        """A parameter of a string type. FhirError when it is another, or given twice."""
        found = self.texts(name)
        if len(found) > 1:
            raise _wrong(name, "is given once")
        return found[0] if found else None

    def texts(self, name: str) -> tuple[str, ...]:
        found = tuple(each.value for each in self.given.get(name, ()))
        if len(found) > _MOST:
            text = f"The parameter `{name}` is given at most {_MOST} times"
            raise FhirError("too-costly", text, "Parameters.parameter")
        if not all(isinstance(each, str) and 0 < len(each) <= _LONGEST for each in found):
            raise _wrong(name, "is a text")
        return found

    def required(self, name: str) -> str:
        found = self.text(name)
        if found is None:
            raise FhirError("required", f"This operation needs `{name}`", status=400)
        return found

    def flag(self, name: str) -> bool | None:
        found = self._one(name)
        value = _FLAGS.get(found, found) if isinstance(found, str) else found
        if value is not None and not isinstance(value, bool):
            raise _wrong(name, "is true or false")
        return value

    def number(self, name: str, most: int = 2**31 - 1) -> int | None:
        """A whole number that is not negative."""
        found = self._one(name)
        if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 11:
            found = int(found)
        if found is None:
            return None
        if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= most:
            raise _wrong(name, "is a whole number that is not negative")
        return found

    def structure(self, name: str) -> Mapping[str, Any] | None:
        """A Coding or CodeableConcept."""
        found = self._one(name)
        return None if found is None else _structure(name, found)

    def structures(self, name: str) -> tuple[Mapping[str, Any], ...]:
        return tuple(_structure(name, each.value) for each in self.given.get(name, ()))

    def resource(self, name: str, type: str) -> Mapping[str, Any] | None:
        given = self.given.get(name, ())
        if not given:
            return None
        found = given[0].resource
        if len(given) > 1 or found is None or found.get("resourceType") != type:
            raise _wrong(name, f"is one {type}")
        return found

    def resources(self, name: str) -> tuple[Mapping[str, Any], ...]:
        found = tuple(each.resource for each in self.given.get(name, ()))
        if any(each is None for each in found):
            raise _wrong(name, "is a resource")
        return tuple(each for each in found if each is not None)

    def parts(self, name: str) -> Iterator[Asked]:
        """The parts of each parameter of a name, to be asked in their turn."""
        for each in self.given.get(name, ()):
            yield Asked.named(each.parts, self.language)

    def _one(self, name: str) -> Any:
        given = self.given.get(name, ())
        if len(given) > 1:
            raise _wrong(name, "is given once")
        return given[0].value if given else None


def _given(parameters: Any) -> Iterator[tuple[str, Given]]:
    if not isinstance(parameters, list | tuple):
        raise FhirError("structure", "Parameters.parameter is a list", "Parameters.parameter")
    for each in parameters:
        if not isinstance(each, Mapping) or not isinstance(each.get("name"), str):
            text = "Each parameter has a name"
            raise FhirError("structure", text, "Parameters.parameter")
        value = next((each[key] for key in each if key.startswith("value")), None)
        resource, parts = each.get("resource"), each.get("part")
        if resource is not None and not isinstance(resource, Mapping):
            raise _wrong(each["name"], "is a resource")
        if resource is not None and each["name"] in _READ:
            require(resource)
        yield each["name"], Given(value, resource, tuple(_given(parts)) if parts else ())


def _structure(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong(name, "is a structure; send it in the Parameters of a POST")
    require_shape(value, CODED, name)
    return value


def _wrong(name: str, what: str) -> FhirError:
    return FhirError("value", f"The parameter `{name[:64]}` {what}", "Parameters.parameter")
