"""How the codes of an expansion nest: held to the definition, with any hierarchy and circles."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from terminology.codesystem import CodeSystem
from terminology.compose import Member
from terminology.nesting import DEEPEST, nested

CODES = "abcdefgh"
URL = "http://example.org/system"


def system(parents):
    return CodeSystem(
        {
            "url": URL,
            "content": "complete",
            "caseSensitive": True,
            "concept": [
                {
                    "code": code,
                    "property": [{"code": "parent", "valueCode": one} for one in above],
                }
                for code, above in parents.items()
            ],
        }
    )


def told(provider, listed):
    """Each listed code with the one that it is told below."""
    members = [
        (
            Member(URL, None, provider.locate(code), None, provider, provider.hierarchical),
            {"code": code},
        )
        for code in listed
    ]
    found = {}
    waiting = [(each, None) for each in nested(members)]
    while waiting:
        one, above = waiting.pop()
        assert one["code"] not in found
        found[one["code"]] = above
        waiting += [(each, one["code"]) for each in one.get("contains", ())]
    return found


def nearest(provider, code, listed):
    """By the definition: level by level upwards."""
    seen, level = {code}, [code]
    while level:
        above = [each for one in level for each in provider.parents(one)]
        found = next((each for each in above if each in listed and each != code), None)
        if found is not None:
            return found
        level = [each for each in dict.fromkeys(above) if each not in seen]
        seen.update(level)
    return None


PARENTS = st.fixed_dictionaries(
    {code: st.lists(st.sampled_from(CODES), max_size=3, unique=True) for code in CODES}
)


@settings(max_examples=300, deadline=None)
@given(PARENTS, st.sets(st.sampled_from(CODES)))
def test_each_code_is_told_once_below_the_nearest_that_is_listed(parents, chosen):
    acyclic = {code: [one for one in above if one < code] for code, above in parents.items()}
    listed = sorted(chosen)
    provider = system(acyclic)
    assert told(provider, listed) == {code: nearest(provider, code, chosen) for code in listed}


@settings(max_examples=300, deadline=None)
@given(PARENTS, st.sets(st.sampled_from(CODES)))
def test_each_code_is_told_once_whatever_circles_there_are(parents, chosen):
    assert told(system(parents), sorted(chosen)).keys() == chosen


def test_a_circle_is_told_at_the_top():
    provider = system({"a": ["c"], "b": ["a"], "c": ["b"], "d": ["c"], "e": []})
    assert told(provider, list("abcde")) == dict.fromkeys("abcde")


def test_a_hierarchy_deeper_than_is_told_goes_on_at_the_top():
    codes = [str(n) for n in range(2 * DEEPEST + 5)]
    provider = system({one: [above] for above, one in pairwise(codes)} | {"0": []})
    found = told(provider, codes)
    assert [code for code in codes if found[code] is None] == ["0", str(DEEPEST), str(2 * DEEPEST)]
