"""The revisions of the database's schema, in `versions`. Alembic is configured in code by `worker.database.schema`, so
that they can be run from an installed wheel."""

# The last revision: the one that this version of the code works with. It is repeated here, so that a command can
# compare it with the database's revision without loading Alembic.
HEAD = "0001"
# The table in which Alembic keeps the database's revision.
VERSION_TABLE = "schema_revision"
