"""The schema's history. Configured in code by `worker.schema`, so that it works from an installed wheel."""
