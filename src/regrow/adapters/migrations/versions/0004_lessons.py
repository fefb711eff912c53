"""What operators teach: a journal of their words for groups of failures, and of their rules."""

import sqlalchemy as sa

from regrow.adapters.migrations import steps

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add a table; nothing that is there is touched, so that workers of an older version go on."""
    steps.create_table(
        "regrow_lesson",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("at", steps.INSTANT, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("body", steps.TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_lesson"),
        autoincrement=True,
    )
