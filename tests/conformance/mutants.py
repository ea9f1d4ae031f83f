"""Resources that are wrong somewhere: any value in place of any other."""

import copy

from hypothesis import strategies as st

_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["#", "#c", "|", "urn:uuid:x", "Patient/1", "group", "choice", "a", "b"]),
    st.just([]),
    st.just({}),
    st.just([[]]),
    st.just([None]),
    st.just([{}]),
    st.just({"a": [1]}),
)


@st.composite
def mutants(draw, resource):
    """The resource with up to four of its parts replaced."""
    made = copy.deepcopy(resource)
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(made))
        holder, at = draw(st.sampled_from(places))
        holder[at] = copy.deepcopy(draw(_VALUES))
    return made


def _places(value):
    members = value.items() if isinstance(value, dict) else enumerate(value)
    for at, each in list(members):
        if at != "resourceType" or each == "Coding":
            yield value, at
        if isinstance(each, dict | list):
            yield from _places(each)
