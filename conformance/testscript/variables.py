"""What a script remembers while it runs, and the variables that stand in its texts.

https://hl7.org/fhir/R4/testscript.html#variables
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from conformance.testscript import values
from conformance.testscript.message import ActionError, Message, of_resource
from conformance.testscript.script import Script, fixture

_VARIABLE = re.compile(r"\$\{([^{}]{1,100})\}")
_RANDOM = re.compile(r"(CD|C|D)([1-9]\d?)")  # letters, digits, or both, so many
_ALPHABETS = {
    "C": string.ascii_letters,
    "D": string.digits,
    "CD": string.ascii_letters + string.digits,
}
_DEPTH = 8  # variables in the values of variables
_CLOCK: Mapping[str, Callable[[datetime], str]] = {
    "CURRENTDATE": lambda now: now.strftime("%Y-%m-%d"),
    "CURRENTDATETIME": lambda now: now.isoformat(timespec="seconds"),
    "CURRENTTIME": lambda now: now.strftime("%H:%M:%S"),
}


@dataclass(slots=True)
class Memory:
    """`given` are values of variables from outside the script, before its own. A placeholder such
    as ${C4} has one value in a whole run, so that what is created can be searched for."""

    script: Script
    given: Mapping[str, str] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    request: Message | None = None
    response: Message | None = None
    _made: dict[str, str] = field(default_factory=dict)

    def message(self, id: str) -> Message:
        """A fixture, or what was kept under that id. ActionError."""
        found = self.messages.get(id)
        if found is None:
            found = self.messages[id] = of_resource(self._fixture(id))
        return found

    def last(self) -> Message:
        """The response of before. ActionError where there is none yet."""
        if self.response is None:
            raise ActionError("There is no response yet")
        return self.response

    def filled(self, text: str) -> str:
        """A text with its variables replaced. ActionError for one that has no value."""
        return self._filled(text, 0)

    def _filled(self, text: str, depth: int) -> str:
        if "${" not in text:
            return text
        if depth > _DEPTH:
            raise ActionError("A variable's value is made of itself")
        return _VARIABLE.sub(lambda found: self._value(found[1], depth), text)

    def _value(self, name: str, depth: int) -> str:
        if name in self.given:
            return self.given[name]
        for each in self.script.resource.get("variable", ()):
            if each.get("name") == name:
                return self._own(each, depth)
        made = self._placeholder(name)
        if made is None:
            raise ActionError(f"The script has no variable {name}")
        return made

    def _own(self, variable: Mapping[str, Any], depth: int) -> str:
        """What a variable yields now, else its default."""
        default = variable.get("defaultValue")
        try:
            found = self._yielded(variable)
        except ActionError:
            if default is None:
                raise
            found = None
        if found is not None:
            return found
        if default is None:
            name = variable["name"]
            hint = variable.get("hint") or variable.get("description") or ""
            raise ActionError(
                f"The variable {name} has no value{f' ({hint})' if hint else ''}: give it one from "
                "outside, or a default"
            )
        return self._filled(default, depth + 1)

    def _yielded(self, variable: Mapping[str, Any]) -> str | None:
        how = next((k for k in ("headerField", "expression", "path") if k in variable), None)
        if how is None:
            return None
        source = variable.get("sourceId")
        message = self.message(source) if source else self.last()
        if how == "headerField":
            return message.headers.get(variable[how]) or None
        read = values.by_expression if how == "expression" else values.by_path
        found = read(variable[how], message.known())
        return values.text(found[0]) if found else None

    def _placeholder(self, name: str) -> str | None:
        if name in self._made:
            return self._made[name]
        if found := _RANDOM.fullmatch(name):
            alphabet = _ALPHABETS[found[1]]
            made = "".join(secrets.choice(alphabet) for _ in range(int(found[2])))
        elif name == "UUID":
            made = str(uuid4())
        elif name in _CLOCK:
            made = _CLOCK[name](datetime.now(UTC))
        else:
            return None
        self._made[name] = made
        return made

    def _fixture(self, id: str) -> dict[str, Any]:
        for each in self.script.resource.get("fixture", ()):
            if each.get("id") == id:
                reference = each.get("resource", {}).get("reference")
                if not reference:
                    raise ActionError(f"The fixture {id} refers to no resource")
                return fixture(self.script, reference)
        raise ActionError(f"There is no fixture, request or response {id} (yet)")

    def settled(self, resource: Any) -> Any:
        """A copy of a fixture with its variables replaced; what is no variable of the script
        stays."""
        if isinstance(resource, dict):
            return {name: self.settled(value) for name, value in resource.items()}
        if isinstance(resource, list):
            return [self.settled(each) for each in resource]
        return self._settled(resource) if isinstance(resource, str) else resource

    def _settled(self, text: str) -> str:
        def value(found: re.Match[str]) -> str:
            try:
                return self._value(found[1], 0)
            except ActionError:
                return found[0]

        return _VARIABLE.sub(value, text) if "${" in text else text
