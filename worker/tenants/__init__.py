"""What a PingOne environment teaches while it is worked with: facts that are published nowhere, and differ by tenant.

May import rules, audit, database and everything below them; knows neither records' stories nor batches'.
Begin with `resync`, which learns whether OTP 1 has to go with `oathResync`.
"""
