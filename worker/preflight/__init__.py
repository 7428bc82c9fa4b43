"""Everything that can be known of a shipment before an OTP is spent: from its files, from the database, from PingOne.

May import intake, batches, tenants, pingone's reads and everything below them; it changes nothing anywhere.
Begin with `findings` (what comes out), `files` and `tenant` (what the one and the other tell).
"""
