"""Puts a process together: the parts that work in it, its threads and its processor, and where Celery's own behaviour
is mended.

Begin with `parts` (what commands and workers have in common) and `worker_parts` (what only workers have): nothing is
put together elsewhere.
"""
