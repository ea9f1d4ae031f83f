"""A QuestionnaireResponse against its Questionnaire: `check(response, questionnaire, codes)`; and
the `conditions` of a Questionnaire itself.

https://hl7.org/fhir/R4/questionnaireresponse.html
"""

from conformance.questionnaires.budget import Budget
from conformance.questionnaires.check import check, named
from conformance.questionnaires.conditions import conditions
from conformance.questionnaires.form import Form, form
from conformance.questionnaires.sets import Codes

__all__ = ["Budget", "Codes", "Form", "check", "conditions", "form", "named"]
