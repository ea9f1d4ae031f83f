"""The pages that people see: signing in, consent, their account and apps.

https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

from fastapi import APIRouter

from salus.console import (
    account,
    admin,
    asking,
    auditing,
    conformance,
    looked,
    signing,
    style,
    validating,
)

router = APIRouter(include_in_schema=False)
for part in (style, signing, asking, account, looked, auditing, admin, conformance, validating):
    router.include_router(part.router)
