"""Finds everything that can be known about a shipment before an OTP is spent: from its files, from the database, from
PingOne.

It changes nothing anywhere. Begin with `findings` (the result), then `files` and `tenant` (the checks).
"""
