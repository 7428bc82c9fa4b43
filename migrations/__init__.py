"""The revisions of the database's schema, in `versions`. `worker.database.schema` configures Alembic in code, so that
an installed wheel can run them."""

# The last revision, which this version of the code works with. It is repeated here so that a command can compare it
# with the database's revision without loading Alembic.
HEAD = "0001"
# The table in which Alembic keeps the database's revision.
VERSION_TABLE = "schema_revision"
