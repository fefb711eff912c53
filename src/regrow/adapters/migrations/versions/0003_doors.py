"""What every door needs: runs whose facts come in twice, deaths of workers, signs of life, and tasks begun."""

import sqlalchemy as sa

from regrow.adapters.migrations import steps

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add columns and tables; nothing that is there is lost."""
    steps.add_column("regrow_failure", sa.Column("deaths_since", steps.INSTANT))
    steps.add_column("regrow_attempt", sa.Column("key", sa.String(255)))
    steps.create_index(
        "uq_regrow_attempt_key",
        "regrow_attempt",
        ["key"],
        unique=True,
        where="key IS NOT NULL",
    )
    steps.create_table(
        "regrow_member",
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", steps.INSTANT, nullable=False),
        sa.Column("seen_at", steps.INSTANT, nullable=False),
        sa.Column("queues", steps.TEXT, nullable=False),
        sa.Column("skew_seconds", steps.NUMBER, nullable=False),
        sa.Column("spooled_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("boot", name="pk_regrow_member"),
    )
    steps.create_table(
        "regrow_begun",
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("boot", sa.String(32), nullable=False),
        sa.Column("at", steps.INSTANT, nullable=False),
        sa.Column("coding", sa.String(16), nullable=False),
        sa.Column("facts", steps.BYTES, nullable=False),
        sa.Column("rescues", sa.Integer(), nullable=False),
        sa.Column("rescues_since", steps.INSTANT),
        sa.PrimaryKeyConstraint("task_id", name="pk_regrow_begun"),
    )
    steps.create_index("ix_regrow_begun_boot", "regrow_begun", ["boot"])
