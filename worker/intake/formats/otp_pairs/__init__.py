"""The format "OTP pairs": a CSV with a serial number and two one-time passwords a row.

Begin with `format`; `header` reads the first line, `cells` one row of fields, `reasons` says why a row is refused.
"""
