"""A QuestionnaireResponse against its Questionnaire: `check(response, questionnaire, codes)`.

https://hl7.org/fhir/R4/questionnaireresponse.html
"""

from conformance.questionnaires.check import Codes, check, named

__all__ = ["Codes", "check", "named"]
