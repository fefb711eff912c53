"""Alembic's entry: runs inside the transaction that `regrow.adapters.sql.migrate` has opened."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="regrow_alembic_version")
context.run_migrations()
