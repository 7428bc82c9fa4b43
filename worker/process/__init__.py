"""Puts a process together: the parts that work in it, its threads and its processor, and where Celery's own behaviour
is mended.

May import every package but cli, installation, the simulator and the embedded stack, and neither `celery` nor `tasks`.
Only these two, installation and cli import it.
Begin with `parts` (what commands and workers have in common) and `worker_parts` (what only workers have): nothing is
put together elsewhere.
"""
