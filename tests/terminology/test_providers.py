"""The built-in code systems: which codes they have, what they say of them, what can be filtered."""

import json
import tarfile

import pytest

from conformance.outcome import FhirError
from terminology import ucum
from terminology.providers import built_in
from tests.shared import shared

PROVIDERS = {each.url: each for each in built_in()}
UNITS = PROVIDERS["http://unitsofmeasure.org"]
LANGUAGES = PROVIDERS["urn:ietf:bcp:47"]
MIME = PROVIDERS["urn:ietf:bcp:13"]
COUNTRIES = PROVIDERS["urn:iso:std:iso:3166"]
SUBDIVISIONS = PROVIDERS["urn:iso:std:iso:3166:-2"]
AREAS = PROVIDERS["http://unstats.un.org/unsd/methods/m49/m49.htm"]
STATES = PROVIDERS["https://www.usps.com/"]
CURRENCIES = PROVIDERS["urn:iso:std:iso:4217"]

PACKAGES = (
    "hl7.fhir.r4.core-4.0.1",
    "hl7.fhir.us.core-3.1.1",
    "hl7.fhir.us.core-7.0.0",
    "hl7.terminology.r4-7.0.1",
)


def properties(concept):
    return {each.code: each.value for each in concept.properties}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_code_that_a_value_set_of_the_packages_lists_is_there(package):
    unknown = []
    with tarfile.open(shared(f"packages/{package}.tgz")) as files:
        for member in files:
            if not member.name.startswith("package/ValueSet"):
                continue
            found = json.load(files.extractfile(member))
            for include in found.get("compose", {}).get("include", ()):
                provider = PROVIDERS.get(include.get("system"))
                codes = [each["code"] for each in include.get("concept", ())]
                unknown += [each for each in codes if provider and provider.locate(each) is None]
                for each in include.get("filter", ()):
                    if provider:
                        provider.filter(each["property"], each["op"], each["value"])
    assert unknown == []


# --- units ---------------------------------------------------------------------------------------


def test_a_unit_has_its_words_its_symbol_and_its_canonical_units():
    found = UNITS.locate("mm[Hg]")
    assert (found.code, found.display) == ("mm[Hg]", "(millimeter of mercury column)")
    assert properties(found) == {"canonical": "m-1.s-2.g"}
    assert [each.value for each in UNITS.locate("Cel").designations] == ["Cel", "°C"]
    assert UNITS.locate("mmHg") is None
    assert UNITS.version == ucum.version() == "2.2"
    assert UNITS.expand() is None


def test_units_are_filtered_by_what_they_measure():
    lengths = UNITS.filter("canonical", "=", "m")
    assert [code for code in ("km", "[in_i]", "kg", "m2") if lengths.holds(code)] == [
        "km",
        "[in_i]",
    ]
    times = UNITS.filter("canonical", "=", "a")
    assert times.holds("h")
    assert times.codes is None
    with pytest.raises(FhirError, match="no filter on the property colour"):
        UNITS.filter("colour", "=", "red")


# --- languages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "written", "display"),
    [
        ("en", "en", "English"),
        ("en-us", "en-US", "English (Region=United States)"),
        ("SR-LATN-rs", "sr-Latn-RS", "Serbian (Script=Latin, Region=Serbia)"),
        ("de-1996", "de-1996", "German (Variant=German orthography of 1996)"),
        ("es-419", "es-419", "Spanish (Region=Latin America and the Caribbean)"),
        ("zh-yue", "zh-yue", "Yue Chinese"),
        ("en-x-clinic", "en-x-clinic", "English (PrivateUse=clinic)"),
        ("i-klingon", "i-klingon", "Klingon"),
        ("qaa", "qaa", "Private use"),
    ],
)
def test_a_language_is_written_and_displayed_by_its_parts(code, written, display):
    found = LANGUAGES.locate(code)
    assert (found.code, found.display) == (written, display)


@pytest.mark.parametrize(
    "code",
    ["xx", "english", "en-YY", "en-Abcd", "en_US", "en-", "-en", "de-1996-1996", "en-u-ca-a-u-b"],
)
def test_a_tag_whose_subtags_are_not_registered_or_misplaced_is_no_language(code):
    assert LANGUAGES.locate(code) is None


def test_languages_are_found_by_their_other_names_and_say_when_they_were_replaced():
    names = {each.value for each in LANGUAGES.locate("zh-TW").designations}
    assert "Chinese (Taiwan)" in names
    assert "Greek" in {each.value for each in LANGUAGES.locate("el").designations}
    assert LANGUAGES.locate("iw").inactive
    assert not LANGUAGES.locate("he").inactive


def test_the_simple_languages_of_us_core_are_those_without_all_but_a_region():
    parts = ("ext-lang", "script", "variant", "extension", "private-use")
    filters = [LANGUAGES.filter(each, "exists", "false") for each in parts]
    tags = ("en", "en-US", "zh-yue", "zh-Hant", "de-1996", "de-u-co-phonebk", "en-x-a")
    assert [tag for tag in tags if all(each.holds(tag) for each in filters)] == ["en", "en-US"]


# --- media types ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "registered"),
    [
        ("text/plain", True),
        ("Text/PLAIN", True),
        ("text/plain; charset=UTF-8", False),
        ("application/vnd.clinic.note+json", False),
        ('application/dicom; transfer-syntax="1.2.840"', False),
        ("x-shop/thing", False),
    ],
)
def test_any_media_type_is_known_by_its_grammar(code, registered):
    assert properties(MIME.locate(code)) == {"registered": registered}


# The first two would be read in a billion ways by a careless grammar.
@pytest.mark.parametrize(
    "code",
    [
        "text/plain" + "; a=b " * 40 + '"',
        "text/plain" + " ;a=' '" * 40 + '"',
        "text",
        "text/",
        "/plain",
        "text/plain;",
        "word/doc",
        "a" * 400,
    ],
)
def test_what_is_no_media_type_is_not_there(code):
    assert MIME.locate(code) is None


# --- places and money ----------------------------------------------------------------------------


def test_a_country_has_three_codes():
    names = [COUNTRIES.locate(code).display for code in ("US", "USA", "840")]
    assert names == ["United States of America"] * 3
    assert properties(COUNTRIES.locate("DE")) == {"alpha-3": "DEU", "numeric": "276"}
    assert len(list(COUNTRIES.filter("code", "regex", "[A-Z]{3}").codes())) == 249
    assert COUNTRIES.locate("XX") is None
    assert COUNTRIES.locate("us") is None


def test_subdivisions_and_areas_lie_in_others():
    assert SUBDIVISIONS.locate("DE-BE").display == "Berlin"
    assert properties(SUBDIVISIONS.locate("US-NY")) == {"country": "US"}
    assert AREAS.subsumes("150", "276")
    assert not AREAS.subsumes("276", "150")
    assert AREAS.parents("276") == ("155",)
    regions = list(AREAS.filter("class", "=", "region").codes())
    assert len(regions) == 28
    assert set(AREAS.filter("concept", "is-a", "155").codes()) >= {"155", "276", "250"}


def test_states_and_currencies():
    assert STATES.locate("VI").display == "Virgin Islands of the U.S."
    assert STATES.locate("AE") is not None
    assert CURRENCIES.locate("USD").display == "US Dollar"
    assert CURRENCIES.locate("DEM").inactive
    assert CURRENCIES.locate("usd") is None
    assert not CURRENCIES.locate("EUR").inactive
