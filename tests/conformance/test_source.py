"""Every expression points to the line and column of its element, or of the nearest around it."""

import pytest

from conformance.source import Source

TEXT = """\
{
  "resourceType": "Patient",
  "_birthDate": {
    "extension": [
      {"url": "http://example.org/x", "valueString": "a, {\\"b\\": [1]}"}
    ]
  },
  "birthDate": "1974-12-25",
  "name": [
    {"family": "A"},
    {"family": "B", "given": ["C", "D"]}
  ],
  "deceasedBoolean": false,
  "contained": [{"resourceType": "Organization", "name": "E"}]
}
"""


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        (None, (1, 1)),
        ("Patient", (1, 1)),
        ("Patient.birthDate", (8, 3)),
        ("Patient.birthDate.extension[0]", (5, 7)),
        ("Patient.birthDate.extension[0].value", (5, 39)),
        ("Patient.name", (9, 3)),
        ("Patient.name[1]", (11, 5)),
        ("Patient.name[1].given[1]", (11, 36)),
        ("Patient.name[7].given", (9, 3)),
        ("Patient.deceased", (13, 3)),
        ("Patient.contained[0].name", (14, 50)),
        ("Patient.gender", (1, 1)),
        ("Patient.name[0].text", (10, 5)),
    ],
)
def test_an_expression_has_a_place(expression, place):
    assert Source(TEXT).place(expression) == place


@pytest.mark.parametrize(
    ("expression", "name", "place"),
    [
        ("Patient", "birthDate", (8, 3)),
        ("Patient.name[1]", "given", (11, 21)),
        ("Patient.name[1]", "nowhere", (11, 5)),
        (None, "_birthDate", (3, 3)),
    ],
)
def test_a_member_has_a_place_by_its_very_name(expression, name, place):
    assert Source(TEXT).member(expression, name) == place


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a": [1, 2', "]]", '"', "[" * 5000, "{" * 5000, '{"a":1}}}', "\ufeff{}"],
)
def test_what_is_no_document_has_places_too(text):
    line, column = Source(text).place("Patient.name[0].given")
    assert line >= 1
    assert column >= 1
