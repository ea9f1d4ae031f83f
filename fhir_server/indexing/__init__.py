"""Search parameters that come while the server runs: which there are, and the building of their
entries in the background.

https://hl7.org/fhir/R4/searchparameter.html
"""
