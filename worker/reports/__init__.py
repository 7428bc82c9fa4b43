"""What is read out of the database for a person or a monitor: status, metrics, export, verification. Changes no record.

May import batches, leases, fleet, pingone, pace, vault and database; not records or dispatch.
Begin with `status` (how the batches stand); `export` writes a batch as a CSV, `verification` asks PingOne itself.
"""
