"""Asks a server what the kits of US Core ask, with values from the resources that it holds, and
holds each answer against a plain evaluation of the same resources."""

import datetime as dt
import re
from collections import defaultdict
from urllib.parse import urlencode

from conformance import definitions
from conformance.fhirpath import FhirPathError, compile_expression
from conformance.fhirpath.items import Environment

PAGES = 50
PATIENTS = 2  # for whom each row is asked, where the data has as many
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d)?)?)?)?")


class World:
    """What the server holds: every resource by type, and the search parameters of a guide, by which
    values are taken from resources."""

    def __init__(self, client, packages):
        self.client = client
        self._defined = defaultdict(list)
        for package, listed in packages.each("SearchParameter"):
            parameter = package.resource(listed)
            for type in parameter.get("base", ()):
                self._defined[type, parameter.get("code")].append(parameter)
        self._by_type = {}
        self._values = {}
        self._expressions = {}

    def all(self, type):
        if type not in self._by_type:
            found, more = self.search(type, [("_count", "500")])
            assert not more
            self._by_type[type] = found
        return self._by_type[type]

    def search(self, type, parameters, post=False):
        """The matches of a search over all its pages, and what was included."""
        if post:
            answer = self.client.post(f"/{type}/_search", data=_form(parameters))
        else:
            answer = self.client.get(f"/{type}?{urlencode(parameters)}")
        matches, more = [], {}
        for _ in range(PAGES):
            assert answer.status_code == 200, (type, parameters, answer.text[:500])
            page = answer.json()
            assert page["type"] == "searchset"
            for entry in page.get("entry", ()):
                resource = entry["resource"]
                if entry["search"]["mode"] == "match":
                    matches.append(resource)
                else:  # each page includes what belongs to its matches
                    more[resource["resourceType"], resource["id"]] = resource
            onward = [link["url"] for link in page["link"] if link["relation"] == "next"]
            if not onward:
                return matches, list(more.values())
            answer = self.client.get(onward[0])
        raise AssertionError(f"more than {PAGES} pages")

    def values(self, resource, name):
        """What a search parameter finds in a resource: (type, JSON value) pairs."""
        type = resource["resourceType"]
        key = type, resource["id"], name
        if key not in self._values:
            self._values[key] = list(self._extracted(resource, type, name))
        return self._values[key]

    def _extracted(self, resource, type, name):
        if name == "_id":
            yield "id", resource["id"]
            return
        if name == "_lastUpdated":
            yield "instant", resource["meta"]["lastUpdated"]
            return
        for expression in self.expressions(type, name):
            for kind, value, _ in expression(resource, Environment(resource, resource)):
                # text that only looks like a date is none
                if value is not None and (kind != "string" or self.kind(type, name) != "date"):
                    yield kind.rpartition(".")[2], value

    def expressions(self, type, name):
        """The compiled parts of a search parameter that speak of a type."""
        if (type, name) not in self._expressions:
            self._expressions[type, name] = self._compiled(type, name)
        return self._expressions[type, name]

    def _compiled(self, type, name):
        found = []
        for parameter in self._defined[type, name]:
            parts = re.split(r"\s*\|\s*", parameter.get("expression", ""))
            found += [p for p in parts if p.lstrip("(").startswith(f"{type}.")]
        assert found, f"no search parameter {name} of {type}"
        return [_compiled(each, type) for each in dict.fromkeys(found)]

    def kind(self, type, name):
        """The type of a search parameter."""
        special = {"_id": "token", "_lastUpdated": "date"}
        return special.get(name) or self._defined[type, name][0]["type"]


def _compiled(expression, type):
    run = compile_expression(_resolved(expression), type, definitions.load())

    def evaluate(resource, environment):
        try:
            return run(resource, environment)
        except FhirPathError:
            return []

    return evaluate


def _resolved(expression):
    """Without resolve(): the reference's own text says its type; and choices as FHIRPath names
    them."""
    expression = re.sub(r"\.value[A-Z]\w+", ".value", expression)
    return re.sub(
        r"\.where\(resolve\(\) is (\w+)\)", r".where(reference.contains('\1/'))", expression
    )


def _form(parameters):
    form = defaultdict(list)
    for name, value in parameters:
        form[name].append(value)
    return form


# --- plain meaning of one criterion --------------------------------------------------------------


def holds(world, resource, name, text):
    """Whether a resource meets `name=text`, read plainly."""
    kind = world.kind(resource["resourceType"], name)
    found = world.values(resource, name)
    return any(_HOLDS[kind](value, each) for each in text.split(",") for _, value in found)


def _token(value, text):
    system, bar, code = text.rpartition("|")
    for own_system, own in tokens(value):
        if own.casefold() == code.casefold() and (not bar or own_system == system):
            return True
    return False


def tokens(value):
    """(system, code) pairs of what a token parameter finds."""
    if isinstance(value, dict):
        if "coding" in value:
            return [pair for each in value["coding"] for pair in tokens(each)]
        code = value.get("code", value.get("value"))
        return [(value.get("system"), code)] if code is not None else []
    return [(None, str(value).lower() if isinstance(value, bool) else str(value))]


def _reference(value, text):
    return referred(value) == (text if isinstance(value, str) else text.split("/")[-1])


def _string(value, text):
    return any(each.casefold().startswith(text.casefold()) for each in strings(value))


def strings(value):
    if isinstance(value, dict):
        return [s for key, v in value.items() if key not in ("use", "period") for s in strings(v)]
    if isinstance(value, list):
        return [s for each in value for s in strings(each)]
    return [str(value)]


def _uri(value, text):
    return str(value) == text


def _date(value, text):
    prefix, asked = (text[:2], text[2:]) if text[:2].isalpha() else ("eq", text)
    low, high = moment(asked)
    start, end = span(value)
    return {
        "eq": low <= start and end <= high,
        "gt": end > high,
        "lt": start < low,
        "ge": start >= low or end > high,
        "le": end <= high or start < low,
    }[prefix]


def span(value):
    """The range that a date, dateTime, instant, Period or Timing covers."""
    if isinstance(value, dict):
        if "event" in value:
            ends = [moment(each) for each in value["event"]]
            return min(e[0] for e in ends), max(e[1] for e in ends)
        start, end = value.get("start"), value.get("end")
        first = moment(start)[0] if start else dt.datetime.min.replace(tzinfo=dt.UTC)
        last = moment(end)[1] if end else dt.datetime.max.replace(tzinfo=dt.UTC)
        return first, last
    return moment(str(value))


def moment(text):
    """The first and the last instant of a date as precise as it is."""
    text = str(text).lstrip("@")
    assert _DATE.fullmatch(text), text
    if "T" in text:
        whole = dt.datetime.fromisoformat(text)
        whole = whole if whole.tzinfo else whole.replace(tzinfo=dt.UTC)
        most = dt.timedelta() if "." in text else dt.timedelta(microseconds=999_999)
        return whole, whole + most
    parts = [int(each) for each in text.split("-")]
    start = dt.datetime(*parts, *[1] * (3 - len(parts)), tzinfo=dt.UTC)
    if len(parts) == 3:
        end = start + dt.timedelta(days=1)
    elif len(parts) == 2:
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    else:
        end = start.replace(year=start.year + 1)
    return start, end - dt.timedelta(microseconds=1)


_HOLDS = {"token": _token, "reference": _reference, "string": _string, "date": _date, "uri": _uri}


# --- one row -------------------------------------------------------------------------------------


def texts(world, resource, name):
    """What can be asked of a parameter so that this resource is found."""
    kind = world.kind(resource["resourceType"], name)
    found = [value for _, value in world.values(resource, name)]
    if kind == "token":
        return [code for value in found for _, code in tokens(value) if code]
    if kind == "reference":
        return [text for text in map(referred, found) if text]
    if kind == "date":
        return [text for text in map(dated, found) if text]
    if kind == "string":
        return [each.split(",")[0] for value in found for each in strings(value) if each.strip()]
    return [str(value) for value in found]


def referred(value):
    """The id that a reference ends in; a canonical is asked for as it is."""
    if isinstance(value, str):
        return value
    return value.get("reference", "").split("/")[-1]


def dated(value):
    """A date as it is; of a Period, whatever ends after the day before its start."""
    if not isinstance(value, dict):
        return str(value).lstrip("@")
    start = value.get("start") or next(iter(value.get("event", ())), None)
    if start is None:
        return None
    return f"gt{(moment(start)[0] - dt.timedelta(days=1)).isoformat()}"


def run(world, row):
    """Run a row for each patient, and say how many searches were asked; 0 when nothing held here
    has all the values that it needs. AssertionError."""
    asked = 0
    done = set()
    for resource in world.all(row.type):
        wanted = _criteria(world, row, resource)
        if wanted is None or wanted in done or len(done) >= PATIENTS:
            continue
        done.add(wanted)
        asked += _asked(world, row, list(wanted), resource)
    return asked


def _criteria(world, row, resource):
    wanted = []
    for name in row.names:
        values = texts(world, resource, name)
        if row.fixed and name == _last(row):
            values = [each for each in values if each in row.fixed]
        if not values:
            return None
        wanted.append((name, values[0]))
    return tuple(wanted)


def _last(row):
    return [n for n in row.names if n != "patient"][-1]


def _asked(world, row, wanted, resource):
    """The plain search and its variants; how many."""
    if row.revinclude or row.include:
        return _joined(world, row, wanted)
    plain = _same(world, row, wanted, resource)
    count = 1
    if row.posted:
        posted, _ = world.search(row.type, wanted, post=True)
        assert _ids(posted) == plain, (row, "POST")
        count += 1
    if row.typed and "patient" in row.names:
        typed = [(n, f"Patient/{v}" if n == "patient" else v) for n, v in wanted]
        assert _ids(world.search(row.type, typed)[0]) == plain, (row, typed)
        count += 1
    for name in row.systems:
        for pair in _with_systems(world, resource, name, dict(wanted)[name]):
            _same(world, row, [(n, pair if n == name else v) for n, v in wanted], resource)
            count += 1
    for name, comparators in row.comparators.items():
        count += _compared(world, row, wanted, resource, name, comparators)
    for name in row.several:
        every = sorted({v for each in world.all(row.type) for v in texts(world, each, name)})
        _same(world, row, [(n, ",".join(every) if n == name else v) for n, v in wanted], resource)
        count += 1
    return count


def _same(world, row, wanted, resource=None):
    """The ids that a search finds: exactly those that plain reading finds, this one too."""
    found, more = world.search(row.type, wanted)
    expected = {
        each["id"]
        for each in world.all(row.type)
        if all(holds(world, each, name, text) for name, text in wanted)
    }
    assert _ids(found) == expected, (str(row), wanted, _ids(found) ^ expected)
    assert not more, (str(row), wanted)
    assert resource is None or resource["id"] in expected, (str(row), wanted)
    return expected


def _ids(resources):
    found = [each["id"] for each in resources]
    assert len(found) == len(set(found))
    return set(found)


def _with_systems(world, resource, name, code):
    for _, value in world.values(resource, name):
        for system, own in tokens(value):
            if own == code and system:
                yield f"{system}|{code}"
                return


def _compared(world, row, wanted, resource, name, comparators):
    """gt and ge of a day before, lt and le of a day after: with the resource in each answer."""
    for comparator in comparators:
        low, high = span(world.values(resource, name)[0][1])
        if comparator in ("gt", "ge"):
            base = high if high.year < 9999 else low
            at = base - dt.timedelta(days=1)
        else:
            base = low if low.year > 1 else high
            at = base + dt.timedelta(days=1)
        text = comparator + at.replace(microsecond=0).isoformat()
        _same(world, row, [(n, text if n == name else v) for n, v in wanted], resource)
    return len(comparators)


def _joined(world, row, wanted):
    """A search with what refers to its matches, or what they refer to."""
    plain, _ = world.search(row.type, wanted)
    how = ("_revinclude", row.revinclude) if row.revinclude else ("_include", row.include)
    found, more = world.search(row.type, [*wanted, how])
    assert _ids(found) == _ids(plain), (str(row), wanted)
    if row.revinclude:
        type = row.revinclude.partition(":")[0]
        names = {f"{row.type}/{each['id']}" for each in plain}
        expected = {
            each["id"]
            for each in world.all(type)
            if any(target.get("reference") in names for target in each.get("target", ()))
        }
        assert {each["resourceType"] for each in more} <= {type}
        assert _ids(more) == expected, (str(row), wanted, _ids(more) ^ expected)
    else:
        references = {each.get("medicationReference", {}).get("reference") for each in plain}
        expected = {each.split("/")[-1] for each in references - {None} if each[0] != "#"}
        assert {each["resourceType"] for each in more} <= {"Medication"}
        assert _ids(more) == expected, (str(row), wanted)
    return 1
