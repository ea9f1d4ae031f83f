"""Two patients with what belongs to each, to both and to neither: the fixture of the negative tests.

Ids end in a or b for whose they are. https://hl7.org/fhir/R4/compartmentdefinition-patient.html
"""

from __future__ import annotations

import base64
from typing import Any

LOINC = "http://loinc.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LAB, VITAL = "laboratory", "vital-signs"


def reference(name: str) -> dict[str, str]:
    return {"reference": name}


def resource(name: str, /, **elements: Any) -> dict[str, Any]:
    type, _, id = name.partition("/")
    return {"resourceType": type, "id": id, **elements}


def observation(
    name: str, of: str, category: str | tuple[str, ...] = LAB, **more: Any
) -> dict[str, Any]:
    codes = (category,) if isinstance(category, str) else category
    return resource(
        name,
        status="final",
        category=[{"coding": [{"system": CATEGORY, "code": each}]} for each in codes],
        code={"coding": [{"system": LOINC, "code": "718-7"}]},
        subject=reference(of),
        **more,
    )


def condition(name: str, of: str, **more: Any) -> dict[str, Any]:
    return resource(name, subject=reference(of), code={"text": "flu"}, **more)


def provenance(name: str, *targets: str, **more: Any) -> dict[str, Any]:
    return resource(
        name,
        target=[reference(each) for each in targets],
        recorded="2024-01-01T00:00:00Z",
        agent=[{"who": reference("Practitioner/doc")}],
        **more,
    )


def binary(name: str, context: str | None) -> dict[str, Any]:
    made = resource(name, contentType="text/plain", data=base64.b64encode(b"secret").decode())
    return {**made, "securityContext": reference(context)} if context else made


def task(name: str, of: str) -> dict[str, Any]:
    return resource(name, status="requested", intent="order", **{"for": reference(of)})


def of_patient(id: str, family: str) -> list[dict[str, Any]]:
    """One of each that belongs to a patient."""
    whose = f"Patient/{id}"
    return [
        resource(whose, name=[{"family": family}], gender="female", birthDate="1970-01-01",
                 generalPractitioner=[reference("Practitioner/doc")]),
        resource(f"Encounter/visit-{id}", status="finished", subject=reference(whose),
                 **{"class": {"code": "AMB"}}),
        observation(f"Observation/lab-{id}", whose, encounter=reference(f"Encounter/visit-{id}"),
                    performer=[reference("Practitioner/doc")]),
        observation(f"Observation/vital-{id}", whose, VITAL),
        condition(f"Condition/flu-{id}", whose),
        task(f"Task/call-{id}", whose),
        resource(f"Device/pump-{id}", patient=reference(whose)),
        binary(f"Binary/scan-{id}", whose),
        binary(f"Binary/report-{id}", f"Observation/lab-{id}"),
        provenance(f"Provenance/of-{id}", f"Observation/lab-{id}"),
        resource(f"List/mine-{id}", status="current", mode="working", subject=reference(whose),
                 source=reference("Practitioner/doc"), entry=[{"item": reference(f"Condition/flu-{id}")}]),
        resource(f"Consent/yes-{id}", status="active", scope={"text": "privacy"},
                 category=[{"text": "privacy"}], patient=reference(whose), policyRule={"text": "opt-in"}),
    ]  # fmt: skip


SHARED = [
    resource("Practitioner/doc", name=[{"family": "House"}]),
    resource("Practitioner/nurse", name=[{"family": "Jackie"}]),
    resource("Organization/org", name="General"),
    resource("Medication/pill", code={"text": "pill"}),
]
BOTH = [
    provenance("Provenance/both", "Observation/lab-a", "Observation/lab-b",
               entity=[{"role": "source", "what": reference("Condition/flu-a")},
                       {"role": "source", "what": reference("Condition/flu-b")}]),
    resource("Group/study", type="person", actual=True,
             member=[{"entity": reference("Patient/a")}, {"entity": reference("Patient/b")}]),
    resource("Appointment/both", status="proposed",
             participant=[{"actor": reference("Patient/a"), "status": "accepted"},
                          {"actor": reference("Patient/b"), "status": "accepted"}]),
]  # fmt: skip
NEITHER = [
    binary("Binary/open", None),
    resource("Subscription/s", status="off", reason="x", criteria="Observation?code=x",
             channel={"type": "rest-hook", "endpoint": "https://x.example"}),
    resource("Bundle/kept", type="collection"),
    resource("List/other", status="current", mode="working", source=reference("Patient/a")),
]  # fmt: skip

ALL = [*SHARED, *of_patient("a", "Ash"), *of_patient("b", "Birch"), *BOTH, *NEITHER]
