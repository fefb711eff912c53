"""What telling people needs: stories, alerts, inboxes, counted runs, leases, and marks for reports and projections."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)
_EMPTY = sa.text("''")


def upgrade() -> None:
    """Add columns and tables; nothing that is there is lost."""
    _failure()
    _attempt()
    _outbox()
    op.create_index("ix_regrow_outbox_created_at", "regrow_outbox", ["created_at"])
    _people()
    _processes()


def _failure() -> None:
    for column in (
        sa.Column("scanned", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("manual", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("confirmed", sa.String(64), nullable=False, server_default=_EMPTY),
        sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("project_at", _INSTANT),
    ):
        op.add_column("regrow_failure", column)
    where = sa.text("project_at IS NOT NULL")
    op.create_index(
        "ix_regrow_failure_project_at",
        "regrow_failure",
        ["project_at", "id"],
        sqlite_where=where,
        postgresql_where=where,
    )
    op.create_index("ix_regrow_failure_ended_at", "regrow_failure", ["state", "ended_at"])
    op.create_index("ix_regrow_failure_last_failed_at", "regrow_failure", ["last_failed_at"])
    op.create_index("ix_regrow_failure_fingerprint", "regrow_failure", ["fingerprint", "state"])
    op.create_table(
        "regrow_note",
        sa.Column("id", _ID, nullable=False),
        sa.Column("failure_id", _ID, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("deed", sa.String(16), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("detail", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(
            ["failure_id"], ["regrow_failure.id"], ondelete="CASCADE", name="fk_regrow_note_failure_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_note"),
    )
    op.create_index("ix_regrow_note_failure_id", "regrow_note", ["failure_id"])


def _attempt() -> None:
    for column in (
        sa.Column("decided_at", _INSTANT),
        sa.Column("told", sa.String(16), nullable=False, server_default=_EMPTY),
        sa.Column("trouble", sa.Text(), nullable=False, server_default=_EMPTY),
        sa.Column("reported_at", _INSTANT),
    ):
        op.add_column("regrow_attempt", column)
    # What failed before there were reports is history: the first report is about what is new.
    op.execute("UPDATE regrow_attempt SET reported_at = failed_at")
    where = sa.text("reported_at IS NULL")
    op.create_index(
        "ix_regrow_attempt_unreported", "regrow_attempt", ["failure_id"], sqlite_where=where, postgresql_where=where
    )


def _outbox() -> None:
    """Messages about no single failure: `failure_id` may be NULL. SQLite cannot change that in place."""
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("regrow_outbox", "failure_id", nullable=True)
        return
    op.execute("DROP INDEX ix_regrow_outbox_due_at")
    op.execute("ALTER TABLE regrow_outbox RENAME TO regrow_outbox_old")
    op.create_table(
        "regrow_outbox",
        sa.Column("id", _ID, nullable=False),
        sa.Column("failure_id", _ID),
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
    columns = "id, failure_id, key, audience, message, created_at, due_at, token, tries, last_error, delivered_at"
    op.execute(f"INSERT INTO regrow_outbox ({columns}) SELECT {columns} FROM regrow_outbox_old")  # noqa: S608  # ours
    op.execute("DROP TABLE regrow_outbox_old")
    op.create_index("ix_regrow_outbox_due_at", "regrow_outbox", ["due_at"], sqlite_where=sa.text("due_at IS NOT NULL"))


def _people() -> None:
    op.create_table(
        "regrow_alert",
        sa.Column("id", _ID, nullable=False),
        sa.Column("about", sa.String(128), nullable=False),
        sa.Column("category", sa.String(64), nullable=False),
        sa.Column("priority", sa.String(16), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("opened_at", _INSTANT, nullable=False),
        sa.Column("last_at", _INSTANT, nullable=False),
        sa.Column("last_key", sa.String(512), nullable=False),
        sa.Column("closed_at", _INSTANT),
        sa.Column("closed_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_alert"),
    )
    where = sa.text("closed_at IS NULL")
    op.create_index(
        "uq_regrow_alert_open", "regrow_alert", ["about"], unique=True, sqlite_where=where, postgresql_where=where
    )
    op.create_table(
        "regrow_notice",
        sa.Column("id", _ID, nullable=False),
        sa.Column("key", sa.String(512), nullable=False),
        sa.Column("user_id", sa.String(255), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("task_id", sa.String(255), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("read_at", _INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_regrow_notice"),
        sa.UniqueConstraint("key", name="uq_regrow_notice_key"),
    )
    op.create_index("ix_regrow_notice_user_id", "regrow_notice", ["user_id", "id"])


def _processes() -> None:
    op.create_table(
        "regrow_run",
        sa.Column("minute", _INSTANT, nullable=False),
        sa.Column("process", sa.String(255), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("minute", "process", name="pk_regrow_run"),
    )
    op.create_table(
        "regrow_lease",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_regrow_lease"),
    )
