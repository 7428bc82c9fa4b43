"""The preparation of a batch: its people are looked up and its tokens imported, many to a request, before its records
are due.

May import pingone's reads and jobs, leases, vault and everything below them. A record that lacks something stays
pending and is not due; what it lacks follows from its row alone, so a preparation may end at any moment and be begun
again.
Begin with `preparation`, which the task calls; `people`, `inventory` and `imports` are its three parts.
"""
