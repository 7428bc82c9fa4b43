"""What happens to a batch as a whole: it is loaded from a shipment, gets a person's commands, and pauses and goes on by
itself.

May import fleet, leases, rules, audit, intake, pace, vault, database and everything below them; not records,
dispatch or reports.
Begin with `loading` (a file becomes a batch), `commands` (pause, resume, cancel, replay) or `upkeep` (what happens
without a person, at each tick).
"""
