"""The ledger: failures, their attempts, the calls to send again, and the outbox."""

import sqlalchemy as sa

from regrow.adapters.migrations import steps

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    steps.create_table(
        "regrow_failure",
        sa.Column("id", steps.ID, nullable=False),
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
        sa.Column("due_at", steps.INSTANT),
        sa.Column("token", sa.String(32)),
        sa.Column("started_retries", sa.Integer()),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("queue", sa.String(255), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("first_failed_at", steps.INSTANT, nullable=False),
        sa.Column("last_failed_at", steps.INSTANT, nullable=False),
        sa.Column("ended_at", steps.INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_failure"),
        sa.UniqueConstraint("task_id", name="uq_regrow_failure_task_id"),
        autoincrement=True,
    )
    steps.create_index(
        "ix_regrow_failure_due_at",
        "regrow_failure",
        ["due_at"],
        where="due_at IS NOT NULL",
    )
    steps.create_index("ix_regrow_failure_state_id", "regrow_failure", ["state", "id"])
    steps.create_table(
        "regrow_attempt",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("failure_id", steps.ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("failed_at", steps.INSTANT, nullable=False),
        sa.Column("exception_type", sa.String(255), nullable=False),
        sa.Column("message", steps.TEXT, nullable=False),
        sa.Column("traceback", steps.TEXT, nullable=False),
        sa.Column("error", steps.TEXT, nullable=False),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("confidence", steps.NUMBER, nullable=False),
        sa.Column("rule", sa.String(255), nullable=False),
        sa.Column("verdict", steps.TEXT, nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
        sa.Column("retry_at", steps.INSTANT),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_attempt_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_attempt"),
        sa.UniqueConstraint("failure_id", "number", name="uq_regrow_attempt_failure_id_number"),
    )
    steps.create_table(
        "regrow_envelope",
        sa.Column("failure_id", steps.ID, nullable=False),
        sa.Column("coding", sa.String(16), nullable=False),
        sa.Column("body", steps.BYTES, nullable=False),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_envelope_failure_id"
        ),
        sa.PrimaryKeyConstraint("failure_id", name="pk_regrow_envelope"),
    )
    steps.create_table(
        "regrow_outbox",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("failure_id", steps.ID, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("audience", sa.String(16), nullable=False),
        sa.Column("message", steps.TEXT, nullable=False),
        sa.Column("created_at", steps.INSTANT, nullable=False),
        sa.Column("due_at", steps.INSTANT),
        sa.Column("token", sa.String(32)),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_error", steps.TEXT, nullable=False),
        sa.Column("delivered_at", steps.INSTANT),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_outbox_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_outbox"),
        sa.UniqueConstraint("key", name="uq_regrow_outbox_key"),
        autoincrement=True,
    )
    steps.create_index(
        "ix_regrow_outbox_due_at",
        "regrow_outbox",
        ["due_at"],
        where="due_at IS NOT NULL",
    )
