"""The schema's history. Configured in code by `worker.database.schema`, so that it works from an installed wheel."""

# The last revision, and the one that the code beside it works with. Told here as well, so that a command can compare it
# with the database's without Alembic.
HEAD = "0005"
