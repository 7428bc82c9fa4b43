"""Telling people: a webhook is told when a batch finishes, pauses, goes on or stalls.

May import reports, batches, pingone and what is below them. Begin with `outbox`, which a task runs every few seconds:
it has a notice written of each difference between how a batch stands and what was told last (`recording`), and sends
what waits (by `webhook`).
"""
