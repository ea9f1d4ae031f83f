"""Reading FHIRPath: precedence, literals, names, and what is refused."""

from decimal import Decimal

import pytest

from conformance.fhirpath import FhirPathError
from conformance.fhirpath.lexer import MAX_LENGTH
from conformance.fhirpath.parser import MAX_DEPTH, MAX_NESTING, parse
from conformance.fhirpath.syntax import (
    Call,
    Empty,
    Indexer,
    Literal,
    Member,
    Operation,
    Sign,
    This,
    TypeOperation,
    Variable,
)
from conformance.fhirpath.values import Quantity, Temporal


def name(text):
    return Member(This(), text, True)


def integer(value):
    return Literal("System.Integer", value)


PRECEDENCE = {
    "a or b and c": Operation("or", name("a"), Operation("and", name("b"), name("c"))),
    "a implies b or c": Operation("implies", name("a"), Operation("or", name("b"), name("c"))),
    "a and b in c": Operation("and", name("a"), Operation("in", name("b"), name("c"))),
    "a in b = c": Operation("in", name("a"), Operation("=", name("b"), name("c"))),
    "a = b < c": Operation("=", name("a"), Operation("<", name("b"), name("c"))),
    "a < b | c": Operation("<", name("a"), Operation("|", name("b"), name("c"))),
    "a | b is C": Operation("|", name("a"), TypeOperation("is", name("b"), "C")),
    "a + b as C": TypeOperation("as", Operation("+", name("a"), name("b")), "C"),
    "a + b * c": Operation("+", name("a"), Operation("*", name("b"), name("c"))),
    "-a * b": Operation("*", Sign("-", name("a")), name("b")),
    "-1.abs()": Sign("-", Call(integer(1), "abs", ())),
    "a - b - c": Operation("-", Operation("-", name("a"), name("b")), name("c")),
    "(a or b) and c": Operation("and", Operation("or", name("a"), name("b")), name("c")),
}


@pytest.mark.parametrize("expression", PRECEDENCE)
def test_operators_bind_as_the_standard_orders_them(expression):
    assert parse(expression) == PRECEDENCE[expression]


LITERALS = {
    "{}": Empty(),
    "true": Literal("System.Boolean", True),
    "12": integer(12),
    "1.50": Literal("System.Decimal", Decimal("1.50")),
    r"'it\'s \u00e9\n'": Literal("System.String", "it's é\n"),
    "@2020-02": Literal("System.Date", Temporal("System.Date", (2020, 2))),
    "@2020T": Literal("System.DateTime", Temporal("System.DateTime", (2020,))),
    "@2020-01-02T03:04:05.60-01:30": Literal(
        "System.DateTime", Temporal("System.DateTime", (2020, 1, 2, 3, 4, 5), "60", -90)
    ),
    "@T08:30": Literal("System.Time", Temporal("System.Time", (8, 30))),
    "5 'mg'": Literal("System.Quantity", Quantity(5, "mg")),
    "2 days": Literal("System.Quantity", Quantity(2, "day", calendar=True)),
}


@pytest.mark.parametrize("expression", LITERALS)
def test_a_literal_keeps_the_precision_it_was_written_in(expression):
    assert parse(expression) == LITERALS[expression]


NAMES = {
    "contains.`div`[0]": Indexer(Member(name("contains"), "div"), integer(0)),
    "$this.as": Member(This(), "as"),
    "as(canonical)": Call(This(), "as", (name("canonical"),)),
    "%resource.id": Member(Variable("resource"), "id"),
    "%`vs-name`": Variable("vs-name"),
    "a is System.String": TypeOperation("is", name("a"), "System.String"),
    "a // to the end\n /* and\n this */ .b": Member(name("a"), "b"),
}


@pytest.mark.parametrize("expression", NAMES)
def test_names_variables_and_comments_are_read(expression):
    assert parse(expression) == NAMES[expression]


REFUSED = {
    "": "Unexpected end of the expression (at character 0)",
    "a.": "A name was expected, not the end (at character 2)",
    "a b": "Unexpected `b` (at character 2)",
    "(a": "`)` was expected, not the end (at character 2)",
    "a.where(b,)": "Unexpected `)` (at character 10)",
    "'open": "Unexpected `'`: a string begins here and does not end (at character 0)",
    "a /* open": "Unexpected '/' (at character 2)",
    "a and": "Unexpected end of the expression (at character 5)",
    "@2020-13": "`@2020-13` is no date or time (at character 0)",
    "%": "A variable needs a name after % (at character 1)",
    r"'\u12'": "An escape \\u needs four hexadecimal digits (at character 0)",
    "a # b": "Unexpected '#' (at character 2)",
}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_place(expression):
    with pytest.raises(FhirPathError) as refused:
        parse(expression)
    assert str(refused.value) == REFUSED[expression]


def test_nesting_length_and_steps_are_limited():
    parse("(" * (MAX_NESTING - 1) + "a" + ")" * (MAX_NESTING - 1))
    with pytest.raises(FhirPathError, match=f"At most {MAX_NESTING} levels of nesting"):
        parse("(" * MAX_NESTING + "a" + ")" * MAX_NESTING)
    parse("a" + ".a" * (MAX_DEPTH - 2))
    for long in (
        "a" + ".a" * MAX_DEPTH,
        "a" + " or a" * MAX_DEPTH,
        "(" * 60 + "a" + ".b.b.b.b)" * 60,
    ):
        with pytest.raises(FhirPathError, match=f"At most {MAX_DEPTH} steps or operations"):
            parse(long)
    parse("'" + "a" * (MAX_LENGTH - 2) + "'")
    with pytest.raises(FhirPathError, match=f"at most {MAX_LENGTH} characters"):
        parse("'" + "a" * (MAX_LENGTH - 1) + "'")
