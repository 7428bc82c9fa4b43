"""Runs the revisions for Alembic, on the connection that `worker.database.schema` opened."""

from alembic import context

from migrations import VERSION_TABLE
from models import (  # noqa: F401  (their tables join the metadata)
    attempt,
    audit,
    batch,
    change,
    installation,
    inventory_job,
    pace,
    process,
    record,
    refused_row,
    tenant_fact,
)
from models.base import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    # SQLite changes a table by copying it. With this, revisions that Alembic writes work on both databases.
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
