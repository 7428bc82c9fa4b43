"""Finds everything that can be known about a shipment before an OTP is spent: from its files, the database, and
PingOne. It changes nothing anywhere. Begin with `findings` (the result), then `files` and `tenant` (the checks)."""
