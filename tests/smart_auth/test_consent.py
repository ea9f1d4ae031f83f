"""What is left of scopes when a person unticks some of what a page offers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_auth import consent
from smart_auth.scopes import read_scopes

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LAB = f"patient/Observation.rs?category={CATEGORY}|laboratory"
TYPES = frozenset(
    "Patient Observation Condition Device DeviceRequest Encounter Basic Medication "
    "MedicationRequest".split()
)


class Types:
    """A directory that knows types only, and lets nobody have Basic by a wildcard."""

    def types(self):
        return TYPES

    def ungrantable(self, scope):
        return "not here" if scope.type == "Basic" and scope.letters == "cud" else None


def granted(asked, without=(), more=(), only=None):
    """What is left when everything is ticked but `without`, or `only` that, and `more`."""
    fields = consent.form(asked.split(), Types()).fields
    ticked = {*(fields if only is None else only), *more} - {*without}
    return " ".join(consent.granted(asked.split(), ticked, Types()))


@pytest.mark.requirement("R1", "G1")
@pytest.mark.parametrize(
    "asked",
    [
        "patient/*.rs openid fhirUser launch/patient",
        "patient/*.read user/*.* offline_access",
        "patient/*.* patient/Observation.rs",
        f"{LAB} patient/Observation.rs?category={CATEGORY}|survey",
        "patient/Observation.rs?code=a%26b&category=x%7Cy",
        "patient/Condition.cruds patient/Basic.c user/Patient.r",
    ],
)
def test_what_is_allowed_whole_is_granted_as_it_was_written(asked):
    assert granted(asked) == asked


@pytest.mark.parametrize(
    ("asked", "without", "left"),
    [
        ("patient/Patient.rs patient/Device.rs", ["see.Device"], "patient/Patient.rs"),
        ("patient/Patient.cruds", ["change.Patient"], "patient/Patient.rs"),
        ("patient/Patient.*", ["change.Patient"], "patient/Patient.read"),
        ("patient/Patient.*", ["see.Patient"], "patient/Patient.write"),
        ("user/*.*", [f"change.{t}" for t in (*TYPES, "*")], "user/*.read"),
        ("user/Patient.r user/Patient.s", ["see.Patient"], ""),
        (f"{LAB} patient/Patient.rs", ["see.Observation.laboratory"], "patient/Patient.rs"),
        ("openid fhirUser launch", ["identity"], "launch"),
        ("offline_access online_access", ["offline"], "online_access"),
        # Another type whose name begins alike goes by its own tick.
        (
            "patient/Medication.rs patient/MedicationRequest.rs",
            ["see.Medication"],
            "patient/MedicationRequest.rs",
        ),
    ],
)
def test_what_is_unticked_is_left_out(asked, without, left):
    assert granted(asked, without) == left


@pytest.mark.requirement("R7", "A8")
def test_a_wildcard_becomes_the_types_that_are_left_in_the_syntax_that_was_asked():
    assert granted("patient/*.read", ["see.Device", "see.*"]).split() == [
        "patient/Patient.read",
        "patient/Condition.read",
        "patient/Observation.read",
        "patient/MedicationRequest.read",
        "patient/Medication.read",
        "patient/Encounter.read",
    ]


@pytest.mark.requirement("R7")
def test_no_scope_is_left_whose_type_only_begins_like_a_refused_one():
    left = granted("patient/*.rs", ["see.Device"]).split()
    assert "patient/Basic.rs" in left
    assert not any(scope.startswith("patient/Device") for scope in left)


def test_a_type_that_was_asked_by_name_too_can_be_unticked():
    left = granted("patient/*.rs patient/Basic.rs", ["see.Basic"]).split()
    assert "patient/Patient.rs" in left
    assert "patient/DeviceRequest.rs" in left
    assert not any("Basic" in scope for scope in left)


@pytest.mark.requirement("G4", "G5")
@pytest.mark.parametrize("asked", ["patient/Observation.rs", "patient/Observation.read"])
def test_ticked_kinds_take_the_place_of_the_type(asked):
    both = ["see.Observation.laboratory", "see.Observation.survey"]
    survey = f"patient/Observation.rs?category={CATEGORY}|survey"
    assert granted(asked, more=both) == f"{LAB} {survey}"
    assert granted(asked, only=both[1:]) == survey


def test_kinds_limit_what_is_seen_and_leave_changing_alone():
    left = granted("patient/Observation.cruds", more=["see.Observation.laboratory"])
    assert left == f"{LAB} patient/Observation.cud"


def test_kinds_of_a_wildcard_are_chosen_too():
    left = granted("patient/*.rs", more=["see.Observation.laboratory"]).split()
    assert [scope for scope in left if "Observation" in scope] == [LAB]
    assert "patient/Condition.rs" in left


def test_a_narrower_scope_of_the_same_type_goes_with_the_kinds_that_are_ticked():
    asked = f"patient/Observation.rs {LAB}"
    assert granted(asked) == asked
    assert granted(asked, more=["see.Observation.survey"]) == (
        f"patient/Observation.rs?category={CATEGORY}|survey"
    )
    assert granted(asked, without=["see.Observation"]) == ""


def test_ticks_that_were_not_offered_add_nothing():
    more = ["see.*", "change.*", "see.Condition", "change.Patient", "identity", "offline"]
    assert granted("patient/Patient.rs", more=more) == "patient/Patient.rs"
    assert granted("patient/Patient.rs", only=more) == ""


def test_what_a_wildcard_cannot_grant_here_is_not_among_its_parts():
    left = granted("user/*.cud", ["change.Device"]).split()
    assert "user/Patient.cud" in left
    assert "user/Basic.cud" not in left


# --- whatever is asked and ticked ----------------------------------------------------------------

SCOPES = st.builds(
    "{}/{}.{}{}".format,
    st.sampled_from(["patient", "user"]),
    st.sampled_from(["*", "Patient", "Observation", "Condition", "Device", "Basic"]),
    st.sampled_from(["rs", "read", "*", "write", "cruds", "c", "r", "us"]),
    st.sampled_from(["", "", f"?category={CATEGORY}|survey", "?code=a%26b", "?x=1&y=2"]),
)
ASKED = st.lists(SCOPES, max_size=5, unique=True).map(" ".join)


class All(Types):
    """A directory that lets everybody have everything."""

    def ungrantable(self, scope):
        return None


def _fields(asked):
    """Every field of the form, those of kinds too."""
    form = consent.form(asked.split(), All())
    ticks = (*form.see, *form.change)
    return [each.field for tick in ticks for each in (tick, *tick.kinds)]


def _covered(left, asked):
    """Whether a scope that is left grants nothing that was not asked by one scope."""
    return any(
        left.context == scope.context
        and scope.type in (left.type, "*")
        and set(left.letters) <= set(scope.letters)
        and set(scope.query) <= set(left.query)
        for scope in asked
    )


@given(ASKED, st.data())
def test_a_choice_never_grants_more_than_was_asked(asked, data):
    offered = [*_fields(asked), "see.*", "change.Patient", "see.Observation.laboratory"]
    ticked = data.draw(st.sets(st.sampled_from(offered)))
    left = consent.granted(asked.split(), ticked, All())
    meant = [each.clinical for each in read_scopes(asked)]
    for each in read_scopes(" ".join(left)):
        assert each.clinical
        assert _covered(each.clinical, meant), each.text


@given(ASKED)
def test_everything_ticked_is_everything_asked(asked):
    fields = consent.form(asked.split(), All()).fields
    assert " ".join(consent.granted(asked.split(), fields, All())) == asked


@given(ASKED, st.data())
def test_a_type_that_is_unticked_cannot_be_seen_by_any_scope(asked, data):
    form = consent.form(asked.split(), All())
    types = sorted({tick.type for tick in form.see} - {"*"})
    if not types:
        return
    refused = data.draw(st.sampled_from(types))
    ticked = {f for f in form.fields if f != f"see.{refused}" and f"see.{refused}." not in f}
    left = read_scopes(" ".join(consent.granted(asked.split(), ticked, All())))
    meant = [each.clinical for each in left if each.clinical]
    assert not any(set(s.letters) & set("rs") and s.type == refused for s in meant)
    whole = [s for s in meant if s.type == "*" and not s.query and set(s.letters) & set("rs")]
    assert not whole or f"see.{refused}" not in form.fields
