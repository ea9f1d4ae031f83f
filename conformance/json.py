"""JSON of resources with every digit kept: the one decoder and the one encoder.

https://hl7.org/fhir/R4/json.html
"""
# filled in by the conformance engineer: parse(data) and encode(value)
