"""A narrative is plain, harmless XHTML with something to read in it."""

import pytest

from conformance.narrative import LONGEST, XHTML, problems


def told(inner, before="", attributes=""):
    return [
        (each.key, each.text)
        for each in problems(f'{before}<div xmlns="{XHTML}"{attributes}>{inner}</div>')
    ]


@pytest.mark.parametrize(
    "inner",
    [
        "text",
        "<p>A <b>bold</b> <a href='#x'>link</a>, &lt;5 &#160; <br/></p>",
        "<img src='#chart' alt='a chart'/>",
        "<img src='data:image/png;base64,AAAA'/>",
        "<table border='1'><tr><td colspan='2' style='color: red'>x</td></tr></table>",
        "<a href='https://example.org/?q=javascript:'>x</a>",
        "<!-- a remark -->x",
        "<span xml:lang='de' lang='de'>x</span>",
    ],
)
def test_what_the_standard_allows_is_no_problem(inner):
    assert told(inner) == []


FORBIDDEN = "A narrative has no DTD, entity, declaration or processing instruction"
SCRIPT = "may not run a script"


@pytest.mark.parametrize(
    "inner, problem",
    [
        ("<script>x</script>", ("txt-1", "The element `script` may not stand in a narrative")),
        ("<form>x</form>", ("txt-1", "The element `form` may not stand in a narrative")),
        ("<svg xmlns='http://www.w3.org/2000/svg'/>x", ("txt-1", "The element `svg` may not stand in a narrative")),
        ("<p onclick='x'>x</p>", ("txt-1", "`p` may not have the attribute `onclick`")),
        ("<p href='x'>x</p>", ("txt-1", "`p` may not have the attribute `href`")),
        ("<a href='javascript:x'>x</a>", ("txt-1", f"The href of `a` {SCRIPT}")),
        ("<a href=' &#1;JAVA&#9;script:x'>x</a>", None),
        ("<a href=' JAVA&#9;script:x'>x</a>", ("txt-1", f"The href of `a` {SCRIPT}")),
        ("<a href='data:text/html,x'>x</a>", ("txt-1", f"The href of `a` {SCRIPT}")),
        ("<a href='data:image/svg+xml,x'>x</a>", ("txt-1", f"The href of `a` {SCRIPT}")),
        ("<img src='data:text/html,x'/>", ("txt-1", f"The src of `img` {SCRIPT}")),
        ("", ("txt-2", "The narrative has neither text nor image")),
        ("<p> &#10; </p>", ("txt-2", "The narrative has neither text nor image")),
        ("<?php x ?>x", ("txt-1", FORBIDDEN)),
        ("<p>x", (None, "The narrative is not well-formed XHTML: see its line 1, column 49")),
        ("&nbsp;x", (None, "The narrative is not well-formed XHTML: see its line 1, column 43")),
    ],
)  # fmt: skip
def test_what_it_does_not_allow_is_told(inner, problem):
    found = told(inner)
    assert found == [problem] if problem else found[0][0] is None


def test_a_document_type_or_entity_is_refused_before_it_can_expand():
    bomb = "<!DOCTYPE div [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;'>]>"
    assert told("&b;", before=bomb) == [("txt-1", FORBIDDEN)]
    assert told("x", before="<?xml version='1.0'?>") == [("txt-1", FORBIDDEN)]


def test_the_root_is_a_div_of_xhtml():
    root = "A narrative is one div in the XHTML namespace"
    for wrong in ("<div>x</div>", f'<p xmlns="{XHTML}">x</p>'):
        assert problems(wrong)[0].text == root
    assert problems("x")[0].key is None
    assert problems("")[0].key is None


def test_the_problems_of_one_narrative_are_limited():
    assert len(told("<script/>" * 100 + "x")) == 10
    assert told("<p>" * 20_000 + "x" + "</p>" * 20_000) == []


def test_a_narrative_has_so_many_characters_and_no_more():
    around = len(f'<div xmlns="{XHTML}"></div>')
    assert told("x" * (LONGEST - around)) == []
    longer = told("<script/>" + "x" * (LONGEST - around))
    assert longer == [(None, "A narrative has at most 2,097,152 characters")]


@pytest.mark.parametrize("before", ["", "x", "<img src='#a'/>", "<br/>x<br/>"])
@pytest.mark.parametrize("inner", ["<p> </p>", "<p class='a'>x</p>", "x<br/>x<p>x</p>x"])
def test_what_is_wrong_is_found_behind_any_text_and_elements(before, inner):
    script = ("txt-1", "The element `script` may not stand in a narrative")
    assert told(f"{before}{inner}<script/>x") == [script]
