"""The ledger's history as Alembic migrations, with a version table of its own beside a host's."""
