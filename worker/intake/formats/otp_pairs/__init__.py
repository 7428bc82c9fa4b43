"""The format "OTP pairs": a CSV with a serial number and two one-time passwords a row.

Begin with `cells`: one row of fields in, a Row or a RowError out.
"""
