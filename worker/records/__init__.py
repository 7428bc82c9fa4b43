"""The story of one record: a worker takes it up, makes the calls that its decisions ask for, and settles it.

May import leases, rules, pingone, pace, journal, vault and database; not batches, dispatch or reports.
Begin with `activation`, which a task calls; `attempt` is what happens under one lease.
"""
