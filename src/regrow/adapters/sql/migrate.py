"""`regrow db upgrade`: bring the ledger's tables up to date, any number of times, beside a host's own migrations."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from regrow.adapters.sql.engine import Database


def upgrade(database: Database) -> tuple[str | None, str]:
    """Create or update the tables.

    Returns:
        The revision before (None if there was no ledger) and the revision now.
    """
    config = Config()
    config.set_main_option("script_location", "regrow:adapters/migrations")
    with database.write(durable=True) as connection, database.kind.upgrading(connection):
        before = revision_of(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return before, newest()


def newest() -> str:
    """The revision that this version of Regrow needs."""
    config = Config()
    config.set_main_option("script_location", "regrow:adapters/migrations")
    return str(ScriptDirectory.from_config(config).get_current_head())


def revision_of(connection: Connection) -> str | None:
    """The revision that the ledger is at, None if it has no tables."""
    context = MigrationContext.configure(connection, opts={"version_table": "regrow_alembic_version"})
    return context.get_current_revision()
