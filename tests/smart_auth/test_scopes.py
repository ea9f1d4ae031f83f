"""Scopes are read strictly, answered as they were asked, and never widened."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smart_auth.grant import LETTERS, Scope
from smart_auth.scopes import BadScope, allowed, read_scope, read_scopes, written

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category|laboratory"


def asked(*texts):
    return read_scopes(" ".join(texts))


def texts(scopes):
    return [each.text for each in scopes]


@pytest.mark.parametrize(
    ("text", "letters", "version"),
    [
        ("patient/Observation.read", "rs", 1),
        ("patient/Observation.write", "cud", 1),
        ("user/*.*", "cruds", 1),
        ("patient/Observation.rs", "rs", 2),
        ("system/*.cruds", "cruds", 2),
        ("user/Patient.d", "d", 2),
    ],
)
@pytest.mark.requirement("S3")
def test_version_1_words_and_version_2_letters_mean_the_same_interactions(text, letters, version):
    scope = read_scope(text)

    assert scope.text == text
    assert scope.clinical.letters == letters
    assert scope.version == version


@pytest.mark.requirement("G1", "59")
def test_a_granular_scope_keeps_its_text_and_is_understood_decoded():
    plain = f"patient/Observation.rs?category={CATEGORY}"
    encoded = "patient/Observation.rs?category=http%3A%2F%2Fx%7Clab%26b&code=a"

    assert read_scope(plain).text == plain
    assert read_scope(plain).clinical.query == (("category", CATEGORY),)
    assert read_scope(plain).version == 2
    assert read_scope(encoded).clinical.query == (("category", "http://x|lab&b"), ("code", "a"))


@pytest.mark.parametrize(
    "text",
    [
        "patient/Observation.sr",
        "patient/Observation.rr",
        "patient/Observation.x",
        "patient/Observation.",
        "patient/Observation",
        "patient/observation.rs",
        "patient/.rs",
        "patient/Obs*.rs",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?=x",
        "patient/Observation.rs?category=a&",
        "patient/Observation.rs?category:not=a",
        "patient/Observation.rs?subject.name=a",
        "patient/Observation.rs?_has:Provenance:target:agent=a",
        "patient/Observation.rs??category=a",
        "patient/Observation.rs?category=%ff",
        "patient/Óbservation.rs",
    ],
)
@pytest.mark.requirement("S1", "S4")
def test_a_clinical_scope_that_is_written_wrongly_is_refused_and_not_read_generously(text):
    with pytest.raises(BadScope):
        read_scopes(text)


@pytest.mark.parametrize(
    "smuggled", ["%20", "%09", "%0a", "%00", "%c2%a0", "%e2%80%a8", "\x1c", "\x85"]
)
@pytest.mark.requirement("S1", "S4")
def test_a_value_that_would_fall_apart_into_more_scopes_is_refused(smuggled):
    fair = "patient/Observation.rs?code=a%2Bb%26c%25"

    with pytest.raises(BadScope):
        read_scope(f"patient/Observation.rs?code=a{smuggled}user/*.cruds")
    assert read_scope(fair).clinical.query == (("code", "a+b&c%"),)


@pytest.mark.requirement("R8")
def test_scopes_that_are_not_known_are_left_out_and_each_scope_counts_once():
    found = asked("openid", "profile", "patient/Patient.rs", "openid", "launch/foo", "fhirUser")

    assert texts(found) == ["openid", "patient/Patient.rs", "fhirUser"]


def test_a_flood_of_scopes_is_refused():
    with pytest.raises(BadScope):
        read_scopes("a" * 8193)
    with pytest.raises(BadScope):
        read_scopes(
            " ".join(f"patient/A{'b' * (n % 20)}{n}.rs".replace("0", "z") for n in range(2000))
        )


def test_what_is_allowed_whole_keeps_the_text_in_which_it_was_asked():
    by = asked("patient/*.cruds", "openid")

    assert texts(allowed(asked("openid", "patient/Patient.read", "patient/*.*"), by)) == [
        "openid",
        "patient/Patient.read",
        "patient/*.*",
    ]


@pytest.mark.requirement("P4", "R1")
def test_what_is_allowed_in_part_becomes_its_parts_in_the_syntax_that_was_asked():
    by = asked(
        "patient/Observation.rs", "patient/Patient.r", f"patient/Condition.rs?category={CATEGORY}"
    )

    assert texts(allowed(asked("patient/Observation.*"), by)) == ["patient/Observation.read"]
    assert texts(allowed(asked("patient/Observation.cruds"), by)) == ["patient/Observation.rs"]
    assert texts(allowed(asked("patient/*.rs"), by)) == [
        "patient/Observation.rs",
        "patient/Patient.r",
        f"patient/Condition.rs?category={CATEGORY}",
    ]


def test_an_earlier_limit_is_never_dropped():
    by = asked(f"patient/Observation.rs?category={CATEGORY}")

    assert texts(allowed(asked("patient/Observation.rs?code=a"), by)) == [
        f"patient/Observation.rs?code=a&category={CATEGORY}"
    ]
    assert texts(allowed(asked("user/Observation.rs", "offline_access"), by)) == []


@pytest.mark.parametrize("other", ["ObservationDefinition", "Medication", "MedicationRequest"])
@pytest.mark.requirement("57", "S8")
def test_a_type_whose_name_begins_with_another_is_another(other):
    by = asked("patient/Observation.rs", "patient/MedicationStatement.rs")

    assert allowed(asked(f"patient/{other}.rs"), by) == ()


SCOPES = st.builds(
    Scope,
    st.sampled_from(("patient", "user", "system")),
    st.sampled_from(("*", "Patient", "Observation", "Condition")),
    st.sets(st.sampled_from(LETTERS), min_size=1).map(
        lambda some: "".join(each for each in LETTERS if each in some)
    ),
    st.lists(st.sampled_from((("code", "a"), ("category", CATEGORY))), unique=True).map(tuple),
)
VALUES = st.one_of(
    st.text(alphabet='%&=?+#; \t|/"\\a2ö', min_size=1, max_size=6), st.text(min_size=1, max_size=6)
).filter(lambda value: value.isprintable() and " " not in value)
LIMITED = st.builds(
    Scope._replace,
    SCOPES,
    query=st.lists(st.tuples(st.sampled_from(("code", "category")), VALUES), max_size=3).map(tuple),
)


@given(SCOPES | LIMITED)
def test_a_scope_is_read_as_it_was_written(scope):
    assert read_scope(written(scope)).clinical == scope
    assert read_scope(written(scope, 1)).clinical == scope


@given(st.lists(LIMITED, max_size=4, unique=True))
def test_scopes_as_one_text_are_as_many_as_they_were(scopes):
    found = read_scopes(" ".join(map(written, scopes)))

    assert [each.clinical for each in found] == scopes


@given(st.text(alphabet="%20c&=ab\x1c\u2003", max_size=12))
def test_a_text_that_is_read_is_one_scope_however_often_it_is_written(text):
    try:
        found = read_scope(f"patient/Observation.rs?code=a{text}")
    except BadScope:
        return

    assert read_scopes(found.text) == (found,)
    assert read_scope(written(found.clinical)).clinical == found.clinical


def opens(scopes, context, type, letter, labels):
    return any(
        each.clinical.context == context
        and each.clinical.covers(type, letter)
        and set(each.clinical.query) <= labels
        for each in scopes
    )


@given(st.lists(SCOPES, max_size=4), st.lists(SCOPES, max_size=4))
def test_what_is_left_opens_exactly_what_both_sides_open(wanted, limits):
    wanted, limits = asked(*map(written, wanted)), asked(*map(written, limits))

    left = allowed(wanted, limits)

    for context in ("patient", "user", "system"):
        for type in ("Patient", "Observation", "Encounter"):
            for letter in LETTERS:
                for labels in (set(), {("code", "a")}, {("code", "a"), ("category", CATEGORY)}):
                    here = context, type, letter, labels
                    assert opens(left, *here) == (opens(wanted, *here) and opens(limits, *here))
