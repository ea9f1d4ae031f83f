"""Make the lists of codes that the built-in terminology providers carry.

    npm pack language-subtag-registry@0.4.2 mime-db@1.54.0 cldr-core@48.2.0 iso-3166@4.4.0 \
        cldr-localenames-full@48.2.0 cldr-numbers-full@48.2.0
    for each in *.tgz; do mkdir -p ${each%-[0-9]*}; tar xzf $each -C ${each%-[0-9]*} --strip 1; done
    python scripts/build_codes.py FOLDER

Reads those packages in FOLDER, writes terminology/providers/*.json.gz, each with its source and
licence in it. Sources: the IANA language subtag registry (CC0 in this form), IANA's media types as
mime-db lists them (MIT), territories, subdivisions' countries and currencies of the Unicode CLDR
(Unicode-3.0), names of subdivisions as iso-3166 lists them (MIT). Countries are named as the value
set iso3166-1-2 of FHIR R4 names them (CC0), so that displays agree with its packages.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from conformance import packages

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "terminology" / "providers"
COUNTRIES = "http://hl7.org/fhir/ValueSet/iso3166-1-2"
UNICODE = "Copyright 1991-2025 Unicode, Inc. Unicode License v3 (Unicode-3.0)"


def main(folder: Path) -> None:
    def read(path: str) -> Any:
        return json.loads((folder / path).read_text(encoding="utf-8"))

    def version(package: str) -> str:
        return str(read(f"{package}/package.json")["version"])

    cldr = version("cldr-core")
    territories = read("cldr-localenames-full/main/en/territories.json")["main"]["en"][
        "localeDisplayNames"
    ]["territories"]
    _write("languages", _languages(read))
    _write("mimetypes", _mimetypes(read, version("mime-db")))
    _write("countries", _countries(read, territories, cldr))
    _write("areas", _areas(read, territories, cldr))
    _write("currencies", _currencies(read, cldr))
    _write("subdivisions", _subdivisions(folder, version("iso-3166")))


def _write(name: str, content: dict[str, Any]) -> None:
    told = json.dumps(content, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    data = gzip.compress(told.encode(), 9, mtime=0)
    (TARGET / f"{name}.json.gz").write_bytes(data)
    print(f"{name}: {len(data):,} bytes")


def _languages(read: Any) -> dict[str, Any]:
    """Subtags by type: descriptions, and what replaced a deprecated one; and usual names."""
    usual = read("cldr-localenames-full/main/en/languages.json")["main"]["en"][
        "localeDisplayNames"
    ]["languages"]
    kinds: dict[str, dict[str, list[Any]]] = {}
    for each in read("language-subtag-registry/data/json/registry.json"):
        name = each.get("Subtag") or each["Tag"]
        said: list[Any] = [each["Description"]]
        if each["Type"] == "extlang":
            said.append(each["Prefix"][0])
        elif "Deprecated" in each:
            said.append(each.get("Preferred-Value", ""))
        kinds.setdefault(each["Type"], {})[name] = said
    return {
        "source": "IANA Language Subtag Registry, by language-subtag-registry 0.4.2;"
        " usual names: Unicode CLDR",
        "licence": f"CC0-1.0; {UNICODE}",
        "version": read("language-subtag-registry/data/json/meta.json")["File-Date"],
        "subtags": kinds,
        "usual": {
            code: name
            for code, name in usual.items()
            if code in kinds["language"] and name not in kinds["language"][code][0]
        },
    }


def _mimetypes(read: Any, version: str) -> dict[str, Any]:
    return {
        "source": f"IANA Media Types, by mime-db {version}",
        "licence": "MIT, Copyright 2014 Jonathan Ong, 2015-2022 Douglas Christopher Wilson",
        "version": version,
        "types": sorted(read("mime-db/db.json")),
    }


def _countries(read: Any, names: dict[str, str], version: str) -> dict[str, Any]:
    """Alpha-2 code: alpha-3 code, numeric code, R4's name, CLDR's name."""
    mapped = read("cldr-core/supplemental/codeMappings.json")["supplemental"]["codeMappings"]
    listed = packages.Packages().find("ValueSet", COUNTRIES)
    assert listed is not None
    official = {
        each["code"]: each["display"] for each in listed["compose"]["include"][0]["concept"]
    }
    return {
        "source": f"Unicode CLDR {version}; names: FHIR R4 iso3166-1-2",
        "licence": f"{UNICODE}; CC0-1.0",
        "version": "2018",
        "countries": {
            code: [mapped[code]["_alpha3"], mapped[code]["_numeric"], name, names[code]]
            for code, name in official.items()
        },
    }


def _areas(read: Any, names: dict[str, str], version: str) -> dict[str, Any]:
    """Codes of the United Nations: name, and the area that each lies in."""
    tree = read("cldr-core/supplemental/territoryContainment.json")["supplemental"]
    within = tree["territoryContainment"]
    mapped = read("cldr-core/supplemental/codeMappings.json")["supplemental"]["codeMappings"]
    found: dict[str, list[str]] = {"001": [names["001"], "", "region"]}

    def add(parent: str) -> None:
        for child in within.get(parent, {}).get("_contains", ()):
            if child.isdecimal():
                found.setdefault(child, [names[child], parent, "region"])
                add(child)
            elif (number := mapped.get(child, {}).get("_numeric")) and int(number) < 900:
                found.setdefault(number, [names[child], parent, "country"])

    add("001")
    return {
        "source": f"UN M49 as in Unicode CLDR {version}",
        "licence": UNICODE,
        "version": None,
        "areas": found,
    }


def _currencies(read: Any, version: str) -> dict[str, Any]:
    """Code: name, and whether any territory uses it still."""
    named = read("cldr-numbers-full/main/en/currencies.json")["main"]["en"]["numbers"]
    data = read("cldr-core/supplemental/currencyData.json")["supplemental"]["currencyData"]
    used = {
        code
        for region in data["region"].values()
        for each in region
        for code, when in each.items()
        if "_to" not in when
    }
    return {
        "source": f"ISO 4217 as in Unicode CLDR {version}",
        "licence": UNICODE,
        "version": None,
        "currencies": {
            code: [said["displayName"], code in used] for code, said in named["currencies"].items()
        },
    }


def _subdivisions(folder: Path, version: str) -> dict[str, Any]:
    text = (folder / "iso-3166/2.js").read_text(encoding="utf-8")
    pattern = r"code: '([^']+)',\s*name: ('(?:[^'\\]|\\.)*'|\"[^\"]*\"),\s*parent: '([^']+)'"
    return {
        "source": f"ISO 3166-2 as listed by iso-3166 {version}",
        "licence": "MIT, Copyright 2014 Titus Wormer",
        "version": None,
        "subdivisions": {
            code: [name[1:-1].replace("\\'", "'"), parent]
            for code, name, parent in re.findall(pattern, text)
        },
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]))
