"""Fills the queue: at each tick, records that are due are put onto it, and those whose lease ran out are rescued.

May import batches, fleet, leases, rules, pace, database and everything below them; not records or reports.
Begin with `dispatcher`; `publishing` sends ids to the broker.
"""
