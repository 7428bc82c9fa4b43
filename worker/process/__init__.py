"""Builds the parts of a process, and changes Celery where it would end a worker or stop beat. Begin with `parts` (for
commands and workers) and `worker_parts` (for workers): parts are built nowhere else."""
