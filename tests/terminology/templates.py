"""Compares an answer with a template of the public terminology tests: their words in values, what
they let be absent, and their R5 form of what R4 has in extensions."""

import json
import re
from decimal import Decimal
from functools import lru_cache

R5 = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ValueSet.expansion."
TYPED = {
    "id": r"[A-Za-z0-9\-.]{1,64}",
    "uuid": r"(urn:uuid:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)",
    "date": r"\d{4}(-\d\d(-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?)?)?",
    "url": r"(https?:|urn:)\S+",
    "token": r"\S+",
    "string": r".+",
    "version": r"[A-Za-z0-9.\-+]+",
    "semver": r"\d+\.\d+\.\d+([-+].*)?",
    "": r".*",
}
WORD = re.compile(r"\$([a-z]*)(?::(.*?))?\$")
# R4 says that an issue's location is an XPath, and deprecates it; the suite has what is in its
# expression there, in some issues of a kind and not in others.
ALWAYS_OPTIONAL = {"location"}
# The suite writes names in its texts with and without quotes, of the same message.
SEPARATOR = "\x1f"
QUOTES = str.maketrans("", "", "'")


def load(path):
    """A file of the suite; some begin with a byte order mark."""
    return json.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)


def in_r5(value):
    """The answer with what R4 puts into extensions where R5 has it."""
    if isinstance(value, list):
        return [in_r5(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {name: in_r5(each) for name, each in value.items() if name != "extension"}
    for each in value.get("extension", ()):
        if each["url"] in (R5 + "property", R5 + "contains.property"):
            parts = {}
            for part in each["extension"]:
                name, found = next((k, v) for k, v in part.items() if k.startswith("value"))
                parts[name if part["url"] == "value" else part["url"]] = found
            made.setdefault("property", []).append(parts)
        else:
            made.setdefault("extension", []).append(in_r5(each))
    return made


def difference(template, actual, path="$", subset=False):
    """Where an answer first differs from its template; None when it fits. `subset`: the answer
    may have more than the template, which names the least."""
    if isinstance(template, dict):
        return _object(template, actual, path, subset)
    if isinstance(template, list):
        return _array(template, actual, path, subset)
    if isinstance(template, str):
        return _text(template, actual, path)
    if type(template) is not bool and isinstance(template, int | Decimal):
        same = (
            not isinstance(actual, bool)
            and isinstance(actual, int | Decimal)
            and template == actual
        )
    else:
        same = type(template) is type(actual) and template == actual
    return None if same else f"{path}: {actual!r} instead of {template!r}"


def _object(template, actual, path, subset):
    if not isinstance(actual, dict):
        return f"{path}: {actual!r} is no object"
    optional = set(template.get("$optional-properties$", ()))
    names = [name for name in template if not name.startswith("$") and not _mark(name)]
    for name in names:
        if name not in actual:
            if name in optional | ALWAYS_OPTIONAL or _may_be_empty(template[name]):
                continue
            return f"{path}.{name}: is missing"
        found = difference(template[name], actual[name], f"{path}.{name}", subset)
        if found:
            return found
    extra = set(actual) - set(names) - optional
    return f"{path}.{min(extra)}: is not expected" if extra and not subset else None


def _may_be_empty(template):
    return isinstance(template, list) and all(_can_be_absent(each) for each in template)


def _mark(name):
    return name.startswith(("warning:", "!"))


def _array(template, actual, path, subset):
    if not isinstance(actual, list):
        return f"{path}: {actual!r} is no array"
    rest = list(actual)
    for index, each in enumerate(sorted(template, key=_can_be_absent)):
        tried = [(difference(each, one, f"{path}[{index}]", subset), one) for one in rest]
        fitting = next((one for found, one in tried if found is None), None)
        if fitting is not None:
            rest.remove(fitting)
        elif not _can_be_absent(each):
            nearest = max((found for found, _ in tried), key=len, default="nothing is there")
            return f"{path}[{index}]: nothing fits {json.dumps(each, default=str)[:200]}; {nearest}"
    return (
        None
        if subset or not rest
        else f"{path}: {json.dumps(rest[0], default=str)[:300]} is not expected"
    )


def _can_be_absent(each):
    return isinstance(each, dict) and ("$optional$" in each or any(_mark(name) for name in each))


def _text(template, actual, path):
    if not isinstance(actual, str):
        return f"{path}: {actual!r} is no text"
    if _pattern(template.translate(QUOTES)).fullmatch(actual.translate(QUOTES)):
        return None
    return f"{path}: {actual!r} instead of {template!r}"


@lru_cache(2_000)
def _pattern(template):
    made, at = "", 0
    for word in WORD.finditer(template):
        made += re.escape(template[at : word.start()]) + _word(word[1], word[2])
        at = word.end()
    return re.compile(made + re.escape(template[at:]), re.DOTALL)


def worded(template, texts):
    """A template with the suite's own wording, by number, beside the hint of each text that may be
    worded otherwise."""
    if isinstance(template, list):
        return [worded(each, texts) for each in template]
    if isinstance(template, dict):
        return {name: worded(each, texts) for name, each in template.items()}
    found = WORD.fullmatch(template) if isinstance(template, str) else None
    if found is None or found[1] != "external":
        return template
    number, _, hint = found[2].partition(":")
    return f"$either:{hint}{SEPARATOR}{texts.get(number, hint)}$"


def _word(kind, rest):
    if kind == "either":
        hint, _, known = rest.partition(SEPARATOR)
        return f"(.*{re.escape(hint)}.*|{re.escape(known)})"
    if kind == "choice":
        return "(" + "|".join(re.escape(each) for each in rest.split("|")) + ")"
    if kind == "fragments":
        return "".join(f"(?=.*{re.escape(each)})" for each in rest.split("|")) + ".*"
    return f"({TYPED[kind]})"
