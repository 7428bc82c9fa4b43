"""The story of the queue: each tick, records that are due are put onto it, and lost ones are rescued.

May import batches, leases, fleet, rules and database; not records or reports.
Begin with `dispatcher`; `workload` tells which batches have work, `publishing` sends ids to the broker.
"""
