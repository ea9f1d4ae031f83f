"""Which elements, slices and extensions that a profile must support are in a set of resources.

The names of `suites/inferno-us-core-metadata`: `component:SystolicBP.value[x].code` and the like.
"""

import re

_SLICE = re.compile(r"(\w+(?:\[x\])?):(\w+)")


def missing(group, resources):
    """What no resource has."""
    supports = group[":must_supports"]
    slices = {each[":slice_id"].partition(".")[2]: each for each in supports[":slices"]}
    lacking = [each[":id"] for each in supports[":extensions"] if not _extended(each, resources)]
    lacking += [name for name, each in slices.items() if not _values(resources, name, slices)]
    elements = {
        each[":path"] for each in supports[":elements"] if not _there(each, resources, slices)
    }
    for choice in supports.get(":choices", ()):
        paths = set(choice.get(":paths", ()))
        if paths - elements:  # one of them does
            elements -= paths
    return sorted([*lacking, *elements])


def _extended(extension, resources):
    path = extension[":path"].removesuffix("extension").strip(".")
    holders = _values(resources, path, {}) if path else resources
    return any(
        each.get("url") == extension[":url"]
        for holder in holders
        for each in holder.get("extension", ())
    )


def _there(element, resources, slices):
    found = _values(resources, element[":path"], slices)
    if ":fixed_value" in element:
        return element[":fixed_value"] in found
    return bool(found)


def _values(resources, path, slices):
    found = list(resources)
    walked = []
    for step in path.split("."):
        cut = _SLICE.fullmatch(step)
        walked.append(step)
        name = cut[1] if cut else step
        found = [value for each in found for value in _children(each, name)]
        defined = slices.get(".".join(walked))
        if cut and defined is not None:
            found = [each for each in found if _is_of(each, defined[":discriminator"])]
    return found


def _children(holder, name):
    if not isinstance(holder, dict):
        return []
    if name.endswith("[x]"):
        stem = re.compile(re.escape(name[:-3]) + "[A-Z]")
        return [value for key, value in holder.items() if stem.match(key)]
    value = holder.get(name, [])
    return value if isinstance(value, list) else [value]


def _is_of(value, discriminator):
    kind = discriminator[":type"]
    if kind == "type":
        return isinstance(value, dict) if discriminator[":code"] == "Quantity" else True
    if kind == "value":
        return all(
            str(each[":value"]) in map(str, _values([value], each[":path"], {}))
            for each in discriminator[":values"]
        )
    inside = discriminator[":path"]
    concepts = _values([value], inside, {}) if inside else [value]
    if kind == "patternIdentifier":
        return any(each.get("system") == discriminator[":system"] for each in concepts)
    return any(
        coding.get("code") == discriminator[":code"]
        and coding.get("system") == discriminator[":system"]
        for concept in concepts
        for coding in concept.get("coding", ())
    )


def references(group, resources):
    """The references at each path that must be supported."""
    for element in group[":must_supports"][":elements"]:
        if "Reference" in element.get(":types", ()):
            found = _values(resources, element[":path"], {})
            told = [each for each in found if isinstance(each, dict)]  # a choice has other types
            yield element[":path"], [each["reference"] for each in told if "reference" in each]
