"""Triggers by which the database itself keeps what was written, on SQLite and PostgreSQL alike. Used by migrations."""

from __future__ import annotations

from typing import Any


def protect(op: Any, *tables: str) -> None:
    """Let rows of `tables` be inserted and never be changed or deleted.

    :param op: Alembic's operations of the migration.
    """
    if op.get_bind().dialect.name == "sqlite":
        for table in tables:
            for verb in ("UPDATE", "DELETE"):
                refuse(op, table, verb, "1", f"{table} is append-only")
        return
    for table in tables:
        refuse(op, table, "UPDATE OR DELETE", "TRUE", f"{table} is append-only")
        op.execute(
            f"CREATE TRIGGER {table}_keep_all BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_no_update_or_delete()"
        )


def refuse(op: Any, table: str, verb: str, condition: str, message: str) -> None:
    """Refuse `verb` on a row of `table` where the SQL `condition` on NEW and OLD holds.

    :param verb: ``INSERT``, ``UPDATE``, ``DELETE``; on PostgreSQL also several, joined by ``OR``.
    """
    name = f"{table}_no_{verb.lower().replace(' ', '_')}"
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {verb} ON {table} BEGIN "
            f"SELECT RAISE(ABORT, '{message}') WHERE {condition}; END"
        )
        return
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {condition} THEN RAISE EXCEPTION '{message}'; END IF; RETURN NEW; END $$"
    )
    op.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
