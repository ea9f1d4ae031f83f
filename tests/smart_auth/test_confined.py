"""What was granted for one patient stays with that patient, whatever becomes of its scopes."""

import pytest
from msgspec.structs import replace

from smart_auth.model import CLIENTS, MINUTE
from tests.smart_auth.served import ACCOUNT

MIXED = ("launch/patient", "offline_access", "patient/Observation.rs", "user/Patient.rs")
FOR_USERS = ("offline_access", "user/Patient.rs")


def texts(grant):
    return {f"{each.context}/{each.type}.{each.letters}" for each in grant.scopes}


@pytest.mark.requirement("13", "36")
def test_a_refresh_that_leaves_the_patients_scopes_out_stays_with_the_patient(served):
    first = served.granted(scopes=MIXED)

    fewer = served.refresh(first["refresh_token"], scope="user/Patient.rs").json()

    grant = served.grant(fewer["access_token"])
    assert texts(grant) == {"user/Patient.rs"}
    assert (grant.patient, grant.confined) == ("p1", True)


@pytest.mark.requirement("13", "45")
def test_a_registration_that_loses_the_patients_scopes_frees_no_token(served):
    token = served.granted(scopes=MIXED)["access_token"]

    async def narrow(tx):
        client = await CLIENTS.read(tx, "app")
        await CLIENTS.write(tx, "app", replace(client, scopes=("user/Patient.rs",)))

    served.transaction(narrow)
    served.tokens.changed(None)

    grant = served.grant(token)
    assert texts(grant) == {"user/Patient.rs"}
    assert (grant.patient, grant.confined) == ("p1", True)


@pytest.mark.requirement("13", "25")
def test_a_patient_whom_the_user_reaches_no_longer_takes_everything_along(served):
    served.ward.reached[ACCOUNT.who] = frozenset({"p1", "p2"})
    token = served.granted(scopes=MIXED)["access_token"]
    before = served.grant(token)
    served.ward.reached[ACCOUNT.who] = frozenset({"p2"})
    served.clock.pass_(MINUTE)

    after = served.grant(token)

    assert (before.patient, before.confined) == ("p1", True)
    assert texts(after) == {"user/Patient.rs"}
    assert (after.patient, after.confined) == (None, True)


def test_a_grant_that_was_for_no_patient_is_not_confined(served):
    assert not served.grant(served.granted(scopes=FOR_USERS)["access_token"]).confined
