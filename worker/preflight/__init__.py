"""Everything that can be known of a shipment before an OTP is spent: from its files, from the database, from PingOne.

It changes nothing anywhere.
Begin with `findings` (what comes out), `files` and `tenant` (what the one and the other tell).
"""
