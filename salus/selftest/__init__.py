"""This build against the suites it carries: on a scratch store of its own, never on real data.

https://hl7.org/fhir/R4/testscript.html
"""
