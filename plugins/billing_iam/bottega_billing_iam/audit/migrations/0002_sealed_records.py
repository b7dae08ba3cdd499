"""Sealed records."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "audit_0002"
down_revision = "audit_0001"
branch_labels = None
depends_on = None

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INDEXES = ("name", "user_name", "user_id", "resource_type", "resource_id", "resource_name", "service")
_KEPT_FOR_EVER = ("audit_scope", "audit_batch", "audit_batch_account", "audit_archive")
_SEALED = "OLD.seq <= COALESCE((SELECT last_seq FROM audit_batch ORDER BY number DESC LIMIT 1), 0)"
_IN_NO_ARCHIVE = (
    "NOT EXISTS (SELECT 1 FROM audit_archive WHERE account_id = OLD.account_id"
    " AND OLD.at BETWEEN first_at AND last_at AND OLD.seq BETWEEN first_seq AND last_seq)"
)


def upgrade() -> None:
    op.drop_index("ix_audit_trace_account", "audit_trace")
    op.drop_index("ix_audit_trace_project", "audit_trace")
    op.rename_table("audit_trace", "audit_trace_before")
    _create_tables()
    _move_records()
    op.drop_table("audit_trace_before")
    _protect()


def _create_tables() -> None:
    op.create_table(
        "audit_scope",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account_id", "project_id"),
    )
    op.create_index("ix_audit_scope_project_id", "audit_scope", ["project_id"], unique=False)
    op.create_table(
        "audit_trace",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("scope", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("user_name", sa.String(), nullable=True),
        sa.Column("access_key_id", sa.String(), nullable=True),
        sa.Column("user_agent", sa.String(), nullable=True),
        sa.Column("source_ip", sa.String(), nullable=True),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=True),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("rating", sa.String(), nullable=False),
        sa.Column("resource_type", sa.String(), nullable=True),
        sa.Column("resource", sa.String(), nullable=True),
        sa.Column("resource_id", sa.String(), nullable=True),
        sa.Column("resource_name", sa.String(), nullable=True),
        sa.Column("enterprise_project_id", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("code", sa.String(), nullable=True),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=True),
        sa.Column("duration_us", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("event_time", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_trace_time", "audit_trace", ["scope", "at"], unique=False)
    for column in _INDEXES:
        op.create_index(f"ix_audit_trace_{column}", "audit_trace", ["scope", column, "at"], unique=False)
    for column, where in (("rating", "rating <> 'normal'"), ("code", "code IS NOT NULL")):
        op.create_index(
            f"ix_audit_trace_{column}",
            "audit_trace",
            ["scope", column, "at"],
            unique=False,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "audit_batch",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("previous", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("sealed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("ix_audit_batch_sealed_at", "audit_batch", ["sealed_at"], unique=False)
    op.create_table(
        "audit_batch_account",
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("members", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch", "account_id"),
    )
    op.create_table(
        "audit_archive",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("contents", sa.JSON(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_index("ix_audit_archive_account", "audit_archive", ["account_id", "last_at"], unique=False)
    op.create_index("ix_audit_archive_first_seq", "audit_archive", ["first_seq"], unique=False)
    op.create_table(
        "audit_tracker",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("bucket", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("data_bucket", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "kind", "name"),
    )
    op.create_table(
        "audit_notification",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("account_id", sa.String(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("topic_urn", sa.String(), nullable=False),
        sa.Column("rule", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project_id", "name"),
    )
    op.create_index("ix_audit_notification_account_id", "audit_notification", ["account_id"], unique=False)


def _move_records() -> None:
    connection = op.get_bind()
    before = sa.Table("audit_trace_before", sa.MetaData(), autoload_with=connection)
    scope, trace = (sa.Table(name, sa.MetaData(), autoload_with=connection) for name in ("audit_scope", "audit_trace"))
    account = sa.func.coalesce(before.c.account_id, "")
    pairs = sa.select(account, before.c.project_id).distinct()
    connection.execute(scope.insert().from_select(["account_id", "project_id"], pairs))
    known = {(s.account_id, s.project_id): s.id for s in connection.execute(sa.select(scope))}
    rows = connection.execute(sa.select(before).order_by(before.c.at, before.c.id))
    for some in rows.mappings().partitions(500):
        connection.execute(trace.insert(), [_moved(dict(row), known) for row in some])


def _moved(row: dict[str, Any], scopes: dict[tuple[str, str], int]) -> dict[str, Any]:
    account_id, resource = row["account_id"] or "", row["resource"] or ""
    return {
        **row,
        "request_id": row["id"],
        "account_id": account_id,
        "scope": scopes[account_id, row["project_id"]],
        "service": (row["action"] or "").partition(":")[0].upper(),
        "resource_id": resource.rpartition("/")[2] or None if "/" in resource else None,
        "enterprise_project_id": "0",
    }


def _protect() -> None:
    """What is sealed cannot change, what is not archived cannot go, and the chain and its archive stay as they are."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE EXCEPTION 'the audit trail cannot be emptied'; END $$"
        )
    for table in _KEPT_FOR_EVER:
        for verb in ("UPDATE", "DELETE"):
            _refuse(table, verb, None, "the audit trail cannot be changed")
    _refuse("audit_trace", "UPDATE", _SEALED, "a sealed record cannot be changed")
    _refuse("audit_trace", "DELETE", _IN_NO_ARCHIVE, "a record that is in no archive cannot be removed")


def _refuse(table: str, verb: str, when: str | None, message: str) -> None:
    name = f"{table}_{verb.lower()}"
    if op.get_bind().dialect.name == "sqlite":
        condition = f"WHEN {when} " if when else ""
        abort = f"SELECT RAISE(ABORT, '{message}')"
        op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} {condition}BEGIN {abort}; END")
        return
    condition, result = when or "TRUE", "OLD" if verb == "DELETE" else "NEW"
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF {condition} THEN RAISE EXCEPTION '{message}'; END IF; RETURN {result}; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
    if verb == "DELETE":
        op.execute(
            f"CREATE TRIGGER {table}_truncate BEFORE TRUNCATE ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION audit_keep()"
        )
