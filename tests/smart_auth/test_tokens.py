"""What a token grants, as the FHIR server asks it."""

import pytest

from smart_auth import grants
from smart_auth.errors import OAuthError
from smart_auth.grant import Scope
from smart_auth.model import GRANTS, HOUR, MINUTE, LaunchContext
from tests.smart_auth.served import Served

USER = ("launch", "openid", "fhirUser", "user/Patient.rs")


@pytest.mark.requirement("S9", "X1", "E1")
def test_a_grant_says_who_what_and_which_patient(served):
    granted = served.grant(served.granted()["access_token"])

    assert granted.name == granted.agent == "Practitioner/anna"
    assert (granted.client, granted.patient, granted.unrestricted) == ("app", "p1", False)
    assert granted.scopes == (Scope("patient", "Patient", "rs"),)
    assert granted.identity is True
    assert granted.id == served.transaction(lambda tx: GRANTS.all(tx))[0][0]


@pytest.mark.parametrize(
    ("scopes", "identity"),
    [(("openid", "fhirUser"), True), (("openid",), False), (("fhirUser",), False)],
)
@pytest.mark.requirement("I3", "14")
def test_identity_needs_openid_and_fhir_user(served, scopes, identity):
    token = served.granted(scopes=scopes, context=LaunchContext())["access_token"]

    granted = served.grant(token)
    assert (granted.identity, granted.scopes, granted.patient) == (identity, (), None)


@pytest.mark.requirement("42", "M2", "24")
@pytest.mark.parametrize("token", ["", "garbage", "x" * 100_000, "\udcff", "\ufffd", "a b"])
def test_a_token_that_is_none_is_refused(served, token):
    served.granted()

    with pytest.raises(OAuthError) as refused:
        served.grant(token)
    assert (refused.value.error, refused.value.status) == ("invalid_token", 401)


@pytest.mark.requirement("24", "42")
def test_a_token_of_another_server_is_refused(tmp_path):
    with Served(tmp_path / "one") as one, Served(tmp_path / "two") as two:
        token = one.granted()["access_token"]
        two.granted()

        with pytest.raises(OAuthError):
            two.grant(token)


@pytest.mark.requirement("42")
def test_what_stands_for_other_things_is_no_access_token(served):
    tokens = served.granted()
    code = served.code()

    for other in (tokens["refresh_token"], tokens["id_token"], code, "g0", "app"):
        with pytest.raises(OAuthError):
            served.grant(other)


def test_a_token_gives_one_object_while_nothing_changes(served):
    token = served.granted()["access_token"]
    first = served.grant(token)

    assert served.grant(token) is first
    served.clock.pass_(MINUTE)
    assert served.grant(token) is first
    served.authority.changed(None)
    assert served.grant(token) is first
    served.ward.reached["Practitioner/anna"] = frozenset(("p1",))
    assert served.grant(token) is first
    served.clock.pass_(MINUTE)
    later = served.grant(token)
    assert later is not first
    assert later.reach == frozenset(("p1",))


@pytest.mark.requirement("42", "Y2")
def test_a_remembered_token_ends_at_its_time(served):
    token = served.granted()["access_token"]
    for _ in range(59):
        served.grant(token)
        served.clock.pass_(MINUTE)
    served.clock.pass_(MINUTE - 1)
    served.grant(token)
    served.clock.pass_(1)

    with pytest.raises(OAuthError):
        served.grant(token)


@pytest.mark.requirement("F5", "42", "Z5")
def test_a_grant_that_ends_takes_remembered_tokens_along_and_no_others(served):
    one = served.granted()
    two = served.redeem(served.code()).json()
    first, second = served.grant(one["access_token"]), served.grant(two["access_token"])

    async def end(tx):
        return await grants.end(served.authority, tx, first.id)

    served.transaction(end)
    served.authority.changed(first.id)

    with pytest.raises(OAuthError):
        served.grant(one["access_token"])
    assert served.grant(two["access_token"]) is second


@pytest.mark.requirement("F5", "42")
def test_what_was_read_before_a_change_is_not_remembered_after_it(served):
    """The grant ends while its token is being looked up."""
    token = served.granted()["access_token"]

    async def meanwhile():
        reach = served.ward.reach

        async def slow(who):
            async def end(tx):
                ((key, _),) = await GRANTS.all(tx)
                await grants.end(served.authority, tx, key)
                return key

            ended = await served.authority.keeper.transaction(end, write=True)
            served.authority.changed(ended)
            return await reach(who)

        served.ward.reach = slow
        await served.tokens.grant(token)

    served.run(meanwhile)

    with pytest.raises(OAuthError):
        served.grant(token)


@pytest.mark.requirement("25", "S7")
def test_a_patient_whom_the_user_reaches_no_longer_is_out_of_context(served):
    token = served.granted()["access_token"]
    served.ward.reached["Practitioner/anna"] = frozenset(("p1", "p2"))
    served.authority.changed(None)
    assert served.grant(token).patient == "p1"

    served.ward.reached["Practitioner/anna"] = frozenset(("p2",))
    served.clock.pass_(MINUTE)

    granted = served.grant(token)
    assert (granted.patient, granted.scopes) == (None, ())


@pytest.mark.requirement("R3", "S9")
def test_user_scopes_are_limited_to_whom_the_user_reaches(served):
    served.ward.reached["Practitioner/anna"] = frozenset(("p1",))
    token = served.granted(scopes=USER)["access_token"]

    assert served.grant(token).reach == frozenset(("p1",))
    assert served.grant(token).scopes == (Scope("user", "Patient", "rs"),)


@pytest.mark.requirement("Z5")
def test_a_restart_forgets_no_token(tmp_path):
    with Served(tmp_path) as served:
        tokens, code = served.granted(), served.code()
    with Served(tmp_path) as served:
        assert served.grant(tokens["access_token"]).patient == "p1"
        assert served.refresh(tokens["refresh_token"]).status_code == 200
        assert served.redeem(code).status_code == 200


@pytest.mark.requirement("35")
def test_a_restart_forgets_no_assertion(tmp_path):
    with Served(tmp_path) as served:
        served.backend()
        assertion = served.assertion()
        assert served.serve(assertion).status_code == 200
    with Served(tmp_path) as served:
        assert served.serve(assertion).status_code == 401


def test_many_tokens_are_remembered_and_the_oldest_forgotten(served, monkeypatch):
    monkeypatch.setattr("smart_auth.tokens._REMEMBERED", 2)
    served.client()
    tokens = [served.redeem(served.code()).json()["access_token"] for _ in range(4)]
    for token in tokens:
        served.grant(token)

    assert len(served.tokens._known) == 2
    assert len(served.tokens._of_grant) == 2
    assert all(served.grant(token).patient == "p1" for token in tokens)


# --- by the operator's word ----------------------------------------------------------------------


def issue(served, client, scopes, **options):
    async def work():
        return await served.tokens.issue(client, scopes, **options)

    return served.run(work)


def test_the_operator_gives_a_token_to_a_service_and_for_a_user(served):
    service, app = served.backend().client, served.client().client
    account = served.account()

    of_service = issue(served, service, "system/Patient.rs")
    context = LaunchContext(patient="p1")
    of_user = issue(served, app, "patient/*.rs", account=account, context=context, life=HOUR * 8)

    assert served.grant(of_service).scopes == (Scope("system", "Patient", "rs"),)
    assert served.grant(of_user).patient == "p1"
    served.clock.pass_(5 * MINUTE)
    with pytest.raises(OAuthError):
        served.grant(of_service)
    served.clock.pass_(7 * HOUR)
    assert served.grant(of_user).agent == "Practitioner/anna"
    assert [(each.what, each.client, each.detail) for each in served.heard] == [
        ("token", "service", "operator"),
        ("token", "app", "operator"),
    ]


@pytest.mark.parametrize(
    ("client", "scopes"),
    [
        ("service", "system/Encounter.rs"),
        ("service", "patient/Patient.rs"),
        ("service", ""),
        ("service", "system/Patient"),
        ("app", "system/Patient.rs"),
        ("app", "patient/Patient.rs"),
        ("app", "user/Patient.rs"),
    ],
)
def test_the_operator_too_gives_no_more_than_was_registered(served, client, scopes):
    found = {"service": served.backend().client, "app": served.client().client}[client]

    with pytest.raises(OAuthError) as refused:
        issue(served, found, scopes)
    assert refused.value.error == "invalid_scope"
