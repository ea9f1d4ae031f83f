"""What ends: patients who are erased, records that nobody needs any longer, months of the audit.

https://gdpr-info.eu/art-17-gdpr/, https://gdpr-info.eu/art-5-gdpr/
"""
