"""What telling people needs: stories, alerts, inboxes, counted runs, leases, and marks for reports and projections."""

import sqlalchemy as sa
from alembic import op

from regrow.adapters.migrations import steps

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add columns and tables; nothing that is there is lost."""
    _failure()
    _attempt()
    _outbox()
    steps.create_index("ix_regrow_outbox_created_at", "regrow_outbox", ["created_at"])
    _people()
    _processes()


def _failure() -> None:
    for column in (
        sa.Column("scanned", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("manual", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("confirmed", sa.String(64), nullable=False, server_default=steps.EMPTY),
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("project_at", steps.INSTANT),
    ):
        steps.add_column("regrow_failure", column)
    steps.create_index(
        "ix_regrow_failure_project_at",
        "regrow_failure",
        ["project_at", "id"],
        where="project_at IS NOT NULL",
    )
    steps.create_index("ix_regrow_failure_ended_at", "regrow_failure", ["state", "ended_at"])
    steps.create_index("ix_regrow_failure_last_failed_at", "regrow_failure", ["last_failed_at"])
    steps.create_index("ix_regrow_failure_fingerprint", "regrow_failure", ["fingerprint", "state"])
    steps.create_table(
        "regrow_note",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("failure_id", steps.ID, nullable=False),
        sa.Column("at", steps.INSTANT, nullable=False),
        sa.Column("deed", sa.String(16), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("detail", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_note_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_note"),
    )
    steps.create_index("ix_regrow_note_failure_id", "regrow_note", ["failure_id"])


def _attempt() -> None:
    for column in (
        sa.Column("decided_at", steps.INSTANT),
        sa.Column("told", sa.String(16), nullable=False, server_default=steps.EMPTY),
        sa.Column("trouble", steps.TEXT, nullable=False, server_default=steps.empty_text()),
        sa.Column("reported_at", steps.INSTANT),
    ):
        steps.add_column("regrow_attempt", column)
    # What failed before there were reports is history: the first report is about what is new.
    op.execute("UPDATE regrow_attempt SET reported_at = failed_at")
    steps.create_index(
        "ix_regrow_attempt_unreported",
        "regrow_attempt",
        ["failure_id"],
        where="reported_at IS NULL",
        on_mysql=["reported_at", "failure_id"],
    )


def _outbox() -> None:
    """Messages about no single failure: `failure_id` may be NULL. SQLite cannot change that in place."""
    if not steps.on("sqlite"):
        op.alter_column("regrow_outbox", "failure_id", existing_type=sa.BigInteger(), nullable=True)
        return
    op.execute("DROP INDEX ix_regrow_outbox_due_at")
    op.execute("ALTER TABLE regrow_outbox RENAME TO regrow_outbox_old")
    steps.create_table(
        "regrow_outbox",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("failure_id", steps.ID),
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
    columns = "id, failure_id, key, audience, message, created_at, due_at, token, tries, last_error, delivered_at"
    op.execute(f"INSERT INTO regrow_outbox ({columns}) SELECT {columns} FROM regrow_outbox_old")  # noqa: S608  # ours
    op.execute("DROP TABLE regrow_outbox_old")
    steps.create_index("ix_regrow_outbox_due_at", "regrow_outbox", ["due_at"], where="due_at IS NOT NULL")


def _people() -> None:
    steps.create_table(
        "regrow_alert",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("about", sa.String(128), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("title", steps.TEXT, nullable=False),
        sa.Column("body", steps.TEXT, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("opened_at", steps.INSTANT, nullable=False),
        sa.Column("last_at", steps.INSTANT, nullable=False),
        sa.Column("last_key", sa.String(512), nullable=False),
        sa.Column("closed_at", steps.INSTANT),
        sa.Column("closed_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_alert"),
    )
    if steps.on("mysql"):
        # What has no partial index has unique ones with any number of NULLs.
        open_about = sa.Computed("CASE WHEN closed_at IS NULL THEN about END", persisted=False)
        steps.add_column("regrow_alert", sa.Column("open_about", sa.String(128), open_about))
    steps.create_index(
        "uq_regrow_alert_open",
        "regrow_alert",
        ["about"],
        unique=True,
        where="closed_at IS NULL",
        on_mysql=["open_about"],
    )
    steps.create_table(
        "regrow_notice",
        sa.Column("id", steps.ID, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("title", steps.TEXT, nullable=False),
        sa.Column("body", steps.TEXT, nullable=False),
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("created_at", steps.INSTANT, nullable=False),
        sa.Column("read_at", steps.INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_notice"),
        sa.UniqueConstraint("key", name="uq_regrow_notice_key"),
    )
    steps.create_index("ix_regrow_notice_user_id", "regrow_notice", ["user_id", "id"])


def _processes() -> None:
    steps.create_table(
        "regrow_run",
        sa.Column("minute", steps.INSTANT, nullable=False),
        sa.Column("process", sa.String(255), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "process", name="pk_regrow_run"),
    )
    steps.create_table(
        "regrow_lease",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("until", steps.INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_regrow_lease"),
    )
