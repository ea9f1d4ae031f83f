"""Somebody at a browser without JavaScript: reads the forms of a page, fills them in by the names
of their fields, and sends them. https://html.spec.whatwg.org/multipage/forms.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx


@dataclass
class Form:
    """A form as it stands on the page: what it would send, and what could be ticked or chosen."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)  # what is sent as it is
    offered: list[tuple[str, str]] = field(default_factory=list)  # boxes, choices and buttons

    @property
    def names(self) -> set[str]:
        return {name for name, _ in (*self.fields, *self.offered)}

    def filled(self, changes: dict[str, str | None]) -> list[tuple[str, str]]:
        """What is sent when some fields are given other values; None: unticked, left out."""
        kept = [(name, value) for name, value in self.fields if name not in changes]
        return [*kept, *((n, v) for n, v in changes.items() if v is not None)]


class _Forms(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.forms, self._select = url, list[Form](), ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name, value = found.get("name") or "", found.get("value") or ""
        if tag == "form":
            action = urljoin(self.url, found.get("action") or self.url)
            self.forms.append(Form(action, (found.get("method") or "get").upper()))
        elif not self.forms:
            return
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select:
            self._choice(self._select, value, "selected" in found)
        elif tag == "input" and name:
            self._input(found.get("type") or "text", name, found.get("value"), "checked" in found)
        elif tag == "button" and name:
            self.forms[-1].offered.append((name, value))

    def _input(self, kind: str, name: str, value: str | None, checked: bool) -> None:
        form = self.forms[-1]
        if kind in ("checkbox", "radio"):
            form.offered.append((name, "on" if value is None else value))
            if checked:
                form.fields.append((name, "on" if value is None else value))
        elif kind == "submit":
            form.offered.append((name, value or ""))
        else:
            form.fields.append((name, value or ""))

    def _choice(self, name: str, value: str, selected: bool) -> None:
        """The first of a list is what it would send, until another is marked."""
        form = self.forms[-1]
        form.offered.append((name, value))
        there = [each for each in form.fields if each[0] == name]
        if selected or not there:
            form.fields = [each for each in form.fields if each[0] != name] + [(name, value)]


def forms(answer: httpx.Response) -> list[Form]:
    """The forms of a page."""
    parser = _Forms(str(answer.url))
    parser.feed(answer.text)
    return parser.forms
