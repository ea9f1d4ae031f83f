"""$install-package: for callers who may do everything, whole or not at all, in force at once."""

import base64

import pytest

from conformance.outcome import FhirError
from fhir_server.interaction import Content, Interaction
from fhir_server.packages import Guides
from fhir_server.storage.store import Unavailable
from tests.fhir_server.packages.serving import Serving
from tests.packages import NAME, PROFILE, profile, tgz
from tests.security.clinic import grant

ADMINISTRATOR = grant("system/*.cruds")
FILE = tgz(profile())


def parameters(file=FILE, **more):
    parts = [{"name": "package", "valueBase64Binary": base64.b64encode(file).decode()}]
    parts += [{"name": name, **value} for name, value in more.items()]
    return {"resourceType": "Parameters", "parameter": parts}


def asked(resource=None, content=None, **url):
    return Interaction(
        "operation",
        operation="install-package",
        resource=resource,
        content=Content("application/gzip", content) if content is not None else None,
        parameters=tuple(url.items()),
    )


def installed(serving):
    return serving.server.core.guides.current.packages.package(NAME)


@pytest.mark.parametrize(
    "request_",
    [
        asked(parameters()),
        asked(content=FILE),
        asked({"resourceType": "Binary", "data": base64.b64encode(FILE).decode()}),
    ],
    ids=["Parameters", "gzip", "Binary"],
)
def test_a_package_is_in_force_when_the_answer_is_there(request_):
    serving = Serving()
    answer = serving.perform(request_, ADMINISTRATOR)
    assert answer == {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "package", "valueString": f"{NAME}#1.0.0"},
            {"name": "resources", "valueInteger": 1},
        ],
    }
    assert installed(serving) is not None
    found = serving.search("StructureDefinition", url=PROFILE)
    assert [each["resource"]["url"] for each in found["entry"]] == [PROFILE]


@pytest.mark.parametrize(
    "caller",
    [
        grant("system/*.rs"),
        grant("system/*.cru"),
        grant("system/Patient.cruds"),
        grant("system/*.cruds?status=active"),
        grant("user/*.cruds", reach=None),
        grant("patient/*.cruds", patient="a"),
        grant("patient/*.cruds system/*.cruds", patient="a"),
        grant(),
    ],
    ids=lambda each: each.id or "nothing",
)
def test_nobody_else_installs_and_what_was_sent_is_not_even_read(caller):
    serving = Serving()
    for sent in (asked(parameters()), asked(content=b"no package")):
        with pytest.raises(FhirError) as refused:
            serving.perform(sent, caller)
        assert refused.value.status == 403
    assert installed(serving) is None


def test_an_entry_of_a_batch_installs_as_well():
    serving = Serving()
    batch = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {
                "request": {"method": "POST", "url": "$install-package"},
                "resource": parameters(),
            }
        ],
    }
    answer = serving.perform(Interaction("batch", resource=batch), ADMINISTRATOR)
    assert answer["entry"][0]["response"]["status"].startswith("200")
    assert installed(serving) is not None


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (asked(), 400, "$install-package takes a .tgz, a Binary or Parameters in its body"),
        (
            asked({"resourceType": "Parameters", "parameter": [{"name": "other"}]}),
            400,
            "$install-package takes package (base64Binary) and strict (boolean)",
        ),
        (
            asked(parameters(strict={"valueString": "true"})),
            400,
            "$install-package takes package (base64Binary) and strict (boolean)",
        ),
        (
            asked({"resourceType": "Binary", "data": "***"}),
            400,
            "The package is base64 of a .tgz",
        ),
        (asked(content=FILE, other="x"), 400, None),
        (asked(content=FILE[:-20]), 422, "The package is damaged: it cannot be unpacked"),
        (
            asked(content=tgz(profile(), {**profile(), "snapshot": [1]})),
            422,
            "1.json is refused: StructureDefinition.snapshot has not the shape that R4 gives it",
        ),
        (asked(parameters(tgz(fhirVersions=["5.0.0"]))), 422, None),
        (
            asked(content=tgz(dependencies={"other": "1"}), strict="true"),
            422,
            "example.guide#1.0.0 depends on packages that are not here: other#1",
        ),
    ],
)
def test_what_cannot_be_installed_is_said_and_nothing_is_kept(sent, status, text):
    serving = Serving()
    with pytest.raises(FhirError) as refused:
        serving.perform(sent, ADMINISTRATOR)
    assert refused.value.status == status
    assert text is None or refused.value.issues[0].text == text
    assert installed(serving) is None


def test_what_is_missing_is_named_in_the_answer():
    answer = Serving().perform(asked(content=tgz(dependencies={"other": "1.0.0"})), ADMINISTRATOR)
    assert answer["parameter"][2:] == [{"name": "missing", "valueString": "other#1.0.0"}]


def test_an_operation_that_is_elsewhere_is_answered_with_those_that_are_here():
    with pytest.raises(FhirError) as refused:
        Serving().perform(Interaction("operation", operation="validate"), ADMINISTRATOR)
    assert refused.value.status == 404
    before, _, offered = refused.value.issues[0].text.partition("there are: ")
    assert before == "There is no such operation on the server; "
    assert "$validate" not in offered.split(", ")
    assert "$install-package" in offered.split(", ")


def test_a_package_is_in_force_though_another_request_took_up_what_was_there_just_before(
    monkeypatch,
):
    """What another loads before this one is committed has nothing of it."""
    touch = Guides.touch

    def touched(self):
        touch(self)
        self.stale = False  # as after that load

    monkeypatch.setattr(Guides, "touch", touched)
    serving = Serving()
    serving.perform(asked(parameters()), ADMINISTRATOR)
    assert installed(serving) is not None


def test_what_could_not_be_taken_up_is_with_the_next_write(monkeypatch):
    serving, guides = Serving(), Guides._load

    async def away(self, store):
        raise Unavailable("on purpose")

    monkeypatch.setattr(Guides, "_load", away)
    serving.perform(asked(parameters()), ADMINISTRATOR)
    assert installed(serving) is None
    monkeypatch.setattr(Guides, "_load", guides)
    serving.create({"resourceType": "Patient"})
    assert installed(serving) is not None


def test_answers_are_held_to_a_value_set_that_is_stored():
    serving, here = Serving(), "http://clinic.example"
    code = {"system": f"{here}/cs", "concept": [{"code": "A"}]}
    serving.create(
        {
            "resourceType": "ValueSet",
            "url": f"{here}/vs",
            "status": "active",
            "compose": {"include": [code]},
        }
    )
    item = {"linkId": "1", "type": "choice", "text": "Which", "answerValueSet": f"{here}/vs"}
    group = {"linkId": "0", "type": "group", "text": "All", "item": [item]}
    questionnaire = {"url": f"{here}/q", "status": "active", "item": [group]}
    serving.create({"resourceType": "Questionnaire", **questionnaire})

    def judged(code):
        coding = {"system": f"{here}/cs", "code": code}
        answered = {"linkId": "1", "text": "Which", "answer": [{"valueCoding": coding}]}
        response = {
            "resourceType": "QuestionnaireResponse",
            "questionnaire": f"{here}/q",
            "status": "completed",
            "item": [{"linkId": "0", "text": "All", "item": [answered]}],
        }
        validate = Interaction(
            "operation", "QuestionnaireResponse", operation="validate", resource=response
        )
        issues = serving.perform(validate, ADMINISTRATOR)["issue"]
        return {each["severity"] for each in issues if "dom-6" not in str(each)}

    assert "error" not in judged("A")
    assert not any("cannot be told" in str(each) for each in judged("A"))
    assert "error" in judged("B")
