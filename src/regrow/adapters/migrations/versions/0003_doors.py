"""What every door needs: runs whose facts come in twice, deaths of workers, signs of life, and tasks begun."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add columns and tables; nothing that is there is lost."""
    op.add_column("regrow_failure", sa.Column("deaths_since", _INSTANT))
    op.add_column("regrow_attempt", sa.Column("key", sa.String(255)))
    where = sa.text("key IS NOT NULL")
    op.create_index(
        "uq_regrow_attempt_key", "regrow_attempt", ["key"], unique=True, sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "regrow_member",
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", _INSTANT, nullable=False),
        sa.Column("seen_at", _INSTANT, nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("skew_seconds", sa.Float(), nullable=False),
        sa.Column("spooled_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("boot", name="pk_regrow_member"),
    )
    op.create_table(
        "regrow_begun",
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("coding", sa.String(16), nullable=False),
        sa.Column("facts", sa.LargeBinary(), nullable=False),
        sa.Column("rescues", sa.Integer(), nullable=False),
        sa.Column("rescues_since", _INSTANT),
        sa.PrimaryKeyConstraint("task_id", name="pk_regrow_begun"),
    )
    op.create_index("ix_regrow_begun_boot", "regrow_begun", ["boot"])
