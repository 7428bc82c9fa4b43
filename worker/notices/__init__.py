"""Telling people: a webhook is told when a batch finishes, pauses, goes on or stalls.

May import reports, batches, pingone and what is below them. Begin with `notifier`, which a task runs every few seconds:
it compares how each batch stands with what was told last, writes a notice of each difference
(`recording`, in the words of `wording`), and sends what waits (`deliveries`, by `webhook`).
"""
