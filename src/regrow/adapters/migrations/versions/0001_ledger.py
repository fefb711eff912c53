"""The ledger: failures, their attempts, the calls to send again, and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "regrow_failure",
        sa.Column("id", _ID, nullable=False),
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("task_name", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("rescues", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("idempotent", sa.Boolean(), nullable=False),
        sa.Column("due_at", _INSTANT),
        sa.Column("token", sa.String(32)),
        sa.Column("started_retries", sa.Integer()),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("first_failed_at", _INSTANT, nullable=False),
        sa.Column("last_failed_at", _INSTANT, nullable=False),
        sa.Column("ended_at", _INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_failure"),
        sa.UniqueConstraint("task_id", name="uq_regrow_failure_task_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_regrow_failure_due_at",
        "regrow_failure",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_regrow_failure_state_id", "regrow_failure", ["state", "id"])
    op.create_table(
        "regrow_attempt",
        sa.Column("id", _ID, nullable=False),
        sa.Column("failure_id", _ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("failed_at", _INSTANT, nullable=False),
        sa.Column("exception_type", sa.String(255), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("traceback", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("rule", sa.String(255), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("retry_at", _INSTANT),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_attempt_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_attempt"),
        sa.UniqueConstraint("failure_id", "number", name="uq_regrow_attempt_failure_id_number"),
    )
    op.create_table(
        "regrow_envelope",
        sa.Column("failure_id", _ID, nullable=False),
        sa.Column("coding", sa.String(16), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_envelope_failure_id"
        ),
        sa.PrimaryKeyConstraint("failure_id", name="pk_regrow_envelope"),
    )
    op.create_table(
        "regrow_outbox",
        sa.Column("id", _ID, nullable=False),
        sa.Column("failure_id", _ID, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("due_at", _INSTANT),
        sa.Column("token", sa.String(32)),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("delivered_at", _INSTANT),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_outbox_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_outbox"),
        sa.UniqueConstraint("key", name="uq_regrow_outbox_key"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_regrow_outbox_due_at",
        "regrow_outbox",
        ["due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
