"""The validator: `Validator(definitions).validate(resource)`.

https://hl7.org/fhir/R4/validation.html
"""

from conformance.validator.validate import LIMIT, Validator

__all__ = ["LIMIT", "Validator"]
