"""A QuestionnaireResponse against its Questionnaire: each fault beside the fair case, and the whole
list of issues."""

import pytest

from conformance import questionnaires
from conformance.definitions import load
from conformance.outcome import Issue
from terminology import ucum
from tests.conformance.forms import (
    A0,
    COLORS,
    CONTAINED,
    ONCE,
    RED,
    ROOT,
    SDC,
    TWICE,
    answered,
    asked,
    check,
    coding,
    form,
    group,
    quantity,
    response,
    terminology,
    when,
)

NESTED = asked("g", "group", asked("a"), asked("b"), repeats=True, extension=[ONCE])

# The structure: the items of the form, a fair response, one that is not, and what is said of it.
STRUCTURES = {
    "required": (
        [asked("a", required=True)],
        response(answered("a", "x")),
        response(),
        [("error", "required", ROOT)],
    ),
    "required and empty": (
        [asked("a", required=True)],
        response(answered("a"), status="in-progress"),
        response(answered("a")),
        [("error", "required", f"{ROOT}.item[0]")],
    ),
    "required group": (
        [asked("g", "group", asked("a"), required=True)],
        response(group("g", answered("a", "x"))),
        response({"linkId": "g"}),
        [("error", "invariant", f"{ROOT}.item[0]")],
    ),
    "required within an answer": (
        [asked("a", "string", asked("b", required=True))],
        response(answered("a", {"valueString": "x", "item": [answered("b", "y")]})),
        response(answered("a", "x")),
        [("error", "required", A0)],
    ),
    "not required within what is not there": (
        [asked("g", "group", asked("a", required=True)), asked("b")],
        response(answered("b", "x")),
        response(group("g"), answered("b", "x")),
        [("error", "required", f"{ROOT}.item[0]")],
    ),
    "display": (
        [asked("d", "display", required=True)],
        response({"linkId": "d", "text": "x"}),
        response(answered("d", "x")),
        [("error", "structure", f"{ROOT}.item[0]")],
    ),
    "unknown": (
        [asked("a")],
        response(answered("a", "x")),
        response(answered("b", "x")),
        [("error", "not-found", f"{ROOT}.item[0].linkId")],
    ),
    "elsewhere": (
        [NESTED],
        response(group("g", answered("a", "x"))),
        response(answered("a", "x")),
        [("error", "structure", f"{ROOT}.item[0]")],
    ),
    "order": (
        [asked("a"), asked("b"), asked("c")],
        response(answered("a", "x"), answered("c", "x")),
        response(answered("c", "x"), answered("a", "x"), answered("b", "x")),
        [("error", "structure", f"{ROOT}.item[1]")],
    ),
    "answers of a group": (
        [NESTED],
        response(group("g")),
        response(answered("g", "x")),
        [("error", "structure", f"{ROOT}.item[0]")],
    ),
    "items beside an answer": (
        [asked("a", "string", asked("b"))],
        response(answered("a", {"valueString": "x", "item": [answered("b", "y")]})),
        response(answered("a", "x", item=[answered("b", "y")])),
        [("error", "structure", f"{ROOT}.item[0]")],
    ),
    "a group that repeats": (
        [NESTED],
        response(group("g", answered("a", "x")), group("g", answered("a", "x"))),
        response(group("g"), group("g"), group("g")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "a group that does not repeat": (
        [asked("g", "group", asked("a"))],
        response(group("g")),
        response(group("g"), group("g")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "a question that repeats": (
        [asked("a", repeats=True)],
        response(answered("a", "x", "y")),
        response(answered("a", "x"), answered("a", "y")),
        [("error", "invalid", f"{ROOT}.item[1]")],
    ),
    "a question that does not repeat": (
        [asked("a")],
        response(answered("a", "x")),
        response(answered("a", "x", "y")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "most answers": (
        [asked("a", repeats=True, extension=[ONCE])],
        response(answered("a", "x", "y")),
        response(answered("a", "x", "y", "z")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "fewest answers": (
        [asked("a", repeats=True, extension=[TWICE])],
        response(answered("a", "x"), status="stopped"),
        response(answered("a", "x")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "fewest groups": (
        [asked("g", "group", asked("a"), repeats=True, extension=[TWICE])],
        response(group("g"), group("g")),
        response(group("g")),
        [("error", "invalid", f"{ROOT}.item[0]")],
    ),
    "an option that stands alone": (
        [asked("a", "choice", answerOption=RED, repeats=True)],
        response(answered("a", coding("none"))),
        response(answered("a", coding("none"), coding("red"))),
        [("error", "invariant", f"{ROOT}.item[0]")],
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_response_has_the_structure_of_its_form(name):
    items, fair, fault, said = STRUCTURES[name]
    assert check(form(*items), fair) == []
    assert check(form(*items), fault) == said


YES = {"valueBoolean": True}
NO = {"valueBoolean": False}
TRUE = {"answerBoolean": True}

# The condition under which b is there: the question a, answers to it that enable b, and such that
# do not.
CONDITIONS = {
    "equal": ("boolean", when("a", "=", **TRUE), [YES], [NO]),
    "equal to any": ("boolean", when("a", "=", **TRUE), [NO, YES], []),
    "equal numbers": (
        "decimal",
        when("a", "=", answerDecimal=5),
        [{"valueDecimal": 5.0}],
        [{"valueDecimal": 5.1}],
    ),
    "equal codings": (
        "choice",
        when("a", "=", answerCoding={"system": COLORS, "code": "red"}),
        [coding("red", display="Red")],
        [coding("red", "http://example.org/others")],
    ),
    "equal quantities": (
        "quantity",
        when("a", "=", **quantity(5, name="answerQuantity")),
        [quantity(5)],
        [quantity(6)],
    ),
    "differs": ("boolean", when("a", "!=", **TRUE), [NO], [YES]),
    "differs from all": ("boolean", when("a", "!=", **TRUE), [NO, NO], [NO, YES]),
    "exists": ("boolean", when("a", "exists", **TRUE), [NO], []),
    "does not exist": ("boolean", when("a", "exists", answerBoolean=False), [], [YES]),
    "greater": (
        "integer",
        when("a", ">", answerInteger=5),
        [{"valueInteger": 6}],
        [{"valueInteger": 5}],
    ),
    "less or equal": (
        "date",
        when("a", "<=", answerDate="2020-01-02"),
        [{"valueDate": "2020-01-02"}],
        [{"valueDate": "2020-01-03"}],
    ),
    "less, of another unit": (
        "quantity",
        when("a", "<", **quantity(1, name="answerQuantity")),
        [quantity(999, "g")],
        [quantity(1001, "g")],
    ),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_an_item_is_there_when_its_condition_holds(name):
    kind, condition, enough, little = CONDITIONS[name]
    items = asked("a", kind, repeats=True), asked("b", required=True, **condition)
    before = [answered("a", *enough)], [answered("a", *little)]
    there, lacking = answered("b", "x"), []
    assert check(form(*items), response(*before[0], there)) == []
    assert check(form(*items), response(*before[0], *lacking)) == [("error", "required", ROOT)]
    assert check(form(*items), response(*before[1], *lacking)) == []
    assert check(form(*items), response(*before[1], there)) == [
        ("error", "invariant", f"{ROOT}.item[1]")
    ]


def test_what_is_not_enabled_may_stand_there_without_an_answer():
    items = asked("a", "boolean"), asked("g", "group", asked("b"), **when("a", "=", **TRUE))
    no = answered("a", NO)
    assert check(form(*items), response(no, group("g", answered("b")))) == []
    assert check(form(*items), response(no, group("g", answered("b", "x")))) == [
        ("error", "invariant", f"{ROOT}.item[1]")
    ]


def test_a_difference_from_what_is_not_answered_is_read_in_both_ways():
    items = asked("a", "boolean"), asked("b", required=True, **when("a", "!=", **TRUE))
    assert check(form(*items), response()) == []
    assert check(form(*items), response(answered("b", "x"))) == []


def test_an_item_that_an_expression_enables_may_be_there_or_lack():
    by = [(f"{SDC}enableWhenExpression", {"valueExpression": {"language": "text/fhirpath"}})]
    items = form(asked("a", required=True, extension=by))
    assert check(items, response()) == []
    assert check(items, response(answered("a", "x"))) == []


def test_several_conditions_hold_all_or_any():
    both = [when("a", "=", **TRUE)["enableWhen"][0], when("b", "=", **TRUE)["enableWhen"][0]]
    given_ = response(answered("a", YES), answered("b", NO), answered("c", "x"))
    for behavior, said in (
        ("any", []),
        ("all", [("error", "invariant", f"{ROOT}.item[2]")]),
        (None, []),  # malformed, so it may mean either
    ):
        last = asked("c", enableWhen=both, **({"enableBehavior": behavior} if behavior else {}))
        assert check(form(asked("a", "boolean"), asked("b", "boolean"), last), given_) == said


def test_a_condition_asks_the_question_of_its_own_repetition():
    inner = asked("a", "boolean"), asked("b", **when("a", "=", **TRUE))
    items = form(asked("g", "group", *inner, repeats=True))
    yes, no = answered("a", YES), answered("a", NO)
    there = answered("b", "x")
    assert check(items, response(group("g", no), group("g", yes, there))) == []
    assert check(items, response(group("g", yes), group("g", no, there))) == [
        ("error", "invariant", f"{ROOT}.item[1].item[1]")
    ]


def test_a_condition_asks_the_nearest_question_before_or_else_behind():
    inside = asked("g", "group", asked("a", "boolean"), repeats=True)
    yes, no = group("g", answered("a", YES)), group("g", answered("a", NO))
    there, condition = answered("b", "x"), when("a", "=", **TRUE)
    behind, before = form(inside, asked("b", **condition)), form(asked("b", **condition), inside)
    assert check(behind, response(no, yes, there)) == []
    assert check(behind, response(yes, no, there)) == [("error", "invariant", f"{ROOT}.item[2]")]
    assert check(before, response(there, yes, no)) == []
    assert check(before, response(there, no, yes)) == [("error", "invariant", f"{ROOT}.item[0]")]


def test_a_condition_asks_the_question_around_it():
    items = form(asked("a", "boolean", asked("b", **when("a", "=", **TRUE))))
    inside = {"item": [answered("b", "x")]}
    assert check(items, response(answered("a", {**YES, **inside}))) == []
    assert check(items, response(answered("a", {**NO, **inside}))) == [
        ("error", "invariant", f"{A0}.item[0]")
    ]


# What is said of the questionnaire itself.


@pytest.mark.parametrize(
    "status,said",
    [
        ("active", []),
        ("draft", [("information", "business-rule", f"{ROOT}.questionnaire")]),
        ("retired", [("information", "business-rule", f"{ROOT}.questionnaire")]),
    ],
)
def test_a_questionnaire_that_is_not_in_use_is_told(status, said):
    assert check(form(asked("a"), status=status), response()) == said


@pytest.mark.parametrize(
    "authored,fair",
    [
        ("2020-01-01", True),
        ("2020-06-30T23:59:59Z", True),
        ("2020", True),
        ("2019-12-31", False),
        ("2020-07-01T00:00:00Z", False),
    ],
)
def test_a_response_is_authored_while_its_questionnaire_is_effective(authored, fair):
    effective = form(asked("a"), effectivePeriod={"start": "2020-01-01", "end": "2020-06-30"})
    said = [] if fair else [("warning", "business-rule", f"{ROOT}.authored")]
    assert check(effective, response(authored=authored)) == said


def test_a_subject_is_of_a_type_that_the_questionnaire_is_about():
    about = form(asked("a"), subjectType=["Patient"])
    assert check(about, response(subject={"reference": "http://x.org/fhir/Patient/1"})) == []
    assert check(about, response(subject={"reference": "Device/1"})) == [
        ("error", "business-rule", f"{ROOT}.subject")
    ]


def test_a_questionnaire_is_found_contained_or_by_its_canonical():
    known = {"http://example.org/q": form(), "http://example.org/q|2": form(version="2")}
    inner = {**form(), "id": "q"}
    held = response(contained=[inner])

    def named(canonical, held=held):
        found = questionnaires.named({**held, "questionnaire": canonical}, known.get)
        return (found.severity, found.code) if isinstance(found, Issue) else found

    assert named("#q") is inner
    assert named("http://example.org/q|2")["version"] == "2"
    assert named("http://example.org/q|3") == ("warning", "not-found")
    assert named("#other") == ("warning", "not-found")
    assert named(None) == ("information", "required")
    assert named("#q", {"contained": 5}) == ("warning", "not-found")


def test_a_contained_questionnaire_uses_the_value_sets_beside_it():
    inner = {**form(asked("a", "choice", answerValueSet="#c")), "id": "q"}
    for code, said in (("red", []), ("blue", [("error", "code-invalid", A0)])):
        whole = response(answered("a", coding(code)), contained=[inner, *CONTAINED])
        found = questionnaires.check(whole, inner, terminology(), ucum, load().types)
        assert [(each.severity, each.code, each.expression) for each in found] == said


def test_what_would_take_too_long_is_left_and_told():
    many = form(
        asked(
            "g",
            "group",
            *(asked(f"a{n}", required=True, **when("x", "=", **TRUE)) for n in range(2000)),
            repeats=True,
        )
    )
    told = [("warning", "too-costly", ROOT)]
    assert check(many, response(*(group("g") for _ in range(20)))) == []
    assert check(many, response(*(group("g") for _ in range(300)))) == told


def test_only_so_many_issues_are_told():
    found = check(form(asked("a")), response(*(answered(f"b{n}", "x") for n in range(200))))
    assert len(found) == 100


def test_several_responses_share_what_may_be_asked():
    one, budget = response(answered("a", "x")), questionnaires.Budget(10)
    given_ = form(asked("a")), terminology(), ucum, load().types
    said = [questionnaires.check(one, *given_, budget=budget) for _ in range(9)]
    assert said[0] == []
    assert [each.code for each in said[-1]] == ["too-costly"]
