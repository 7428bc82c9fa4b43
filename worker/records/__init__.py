"""What a worker does with one record: it waits for a slot, claims the record, makes the calls that its decisions ask
for, and settles it.

May import batches (for what a settled record means for its batch), leases, rules, pingone, pace, fleet, vault
and everything below them; not dispatch or reports.
Begin with `activation`, which a task calls; `attempt` is what happens under one lease.
"""
