"""The story of a batch: loaded from a shipment, commanded by a person, paused and resumed by itself.

May import leases, rules, audit, intake, journal, pace and database; not records, dispatch or reports.
Begin with `loading` (a file becomes a batch), `commands` (pause, resume, cancel, replay) or `upkeep` (what happens
without a person, at each tick).
"""
