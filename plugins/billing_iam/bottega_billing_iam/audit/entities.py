"""Tables of the audit trail (003 §10.5). The database itself refuses what would change its past (see the migrations).

Times are epoch ms. An account id of ``""`` stands for callers who never said who they were.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import new_id

_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class Trace(SQLModel, table=True):
    """Who did what, when, from where, with what request and result: one a request. Rows are written by events only.

    `seq` numbers the records as they came. Each search is one index: its place (`scope`), what is looked for, the
    time.
    """

    __tablename__ = "audit_trace"
    __table_args__ = (
        Index("ix_audit_trace_time", "scope", "at"),
        Index("ix_audit_trace_name", "scope", "name", "at"),
        Index("ix_audit_trace_user_name", "scope", "user_name", "at"),
        Index("ix_audit_trace_user_id", "scope", "user_id", "at"),
        Index("ix_audit_trace_resource_type", "scope", "resource_type", "at"),
        Index("ix_audit_trace_resource_id", "scope", "resource_id", "at"),
        Index("ix_audit_trace_resource_name", "scope", "resource_name", "at"),
        Index("ix_audit_trace_service", "scope", "service", "at"),
        Index(
            "ix_audit_trace_rating",
            "scope",
            "rating",
            "at",
            sqlite_where=text("rating <> 'normal'"),
            postgresql_where=text("rating <> 'normal'"),
        ),
        Index(
            "ix_audit_trace_code",
            "scope",
            "code",
            "at",
            sqlite_where=text("code IS NOT NULL"),
            postgresql_where=text("code IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )
    seq: int | None = Field(default=None, sa_column=Column(_SEQUENCE, primary_key=True, autoincrement=True))
    id: str = Field(unique=True)
    """The request's id; of a later word about a request whose record is sealed already, an id of its own."""
    request_id: str
    scope: int
    account_id: str
    project_id: str
    user_id: str | None
    user_name: str | None
    access_key_id: str | None
    user_agent: str | None
    source_ip: str | None
    method: str
    path: str
    action: str | None
    service: str
    """The first part of the action, in capitals."""
    name: str
    rating: str
    """``normal``, ``warning`` (refused, or the caller's mistake) or ``incident`` (the platform failed)."""
    resource_type: str | None
    resource: str | None
    resource_id: str | None
    resource_name: str | None
    enterprise_project_id: str
    status: int
    code: str | None
    reason: str | None
    request: dict[str, Any] | None = Field(sa_column=Column(JSON(none_as_null=True), nullable=True))
    duration_us: int | None = Field(sa_type=BigInteger)
    at: int = Field(sa_type=BigInteger)
    recorded_at: int = Field(sa_type=BigInteger)
    event_time: str
    """When the event was made that this row shows; an earlier event of the same request changes nothing."""


class Scope(SQLModel, table=True):
    """Where a record is looked for: the account that called and the project it called in, as a short number."""

    __tablename__ = "audit_scope"
    __table_args__ = (UniqueConstraint("account_id", "project_id"),)
    id: int | None = Field(default=None, primary_key=True)
    account_id: str
    project_id: str = Field(index=True)


class Batch(SQLModel, table=True):
    """A link of the chain: `hash` covers `previous`, the numbers below and what each account had in it."""

    __tablename__ = "audit_batch"
    number: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    previous: str
    hash: str
    first_seq: int = Field(sa_type=BigInteger)
    last_seq: int = Field(sa_type=BigInteger)
    count: int
    sealed_at: int = Field(sa_type=BigInteger, index=True)


class BatchAccount(SQLModel, table=True):
    """The records of one account in a batch: `members` are their SHA-256 (32 bytes each), `digest` that of these."""

    __tablename__ = "audit_batch_account"
    batch: int = Field(primary_key=True, sa_type=BigInteger)
    account_id: str = Field(primary_key=True)
    count: int
    digest: str
    members: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class Archive(SQLModel, table=True):
    """An object of the archive: records of one account and day (UTC), read back before they left the database."""

    __tablename__ = "audit_archive"
    __table_args__ = (Index("ix_audit_archive_account", "account_id", "last_at"),)
    id: int | None = Field(default=None, primary_key=True)
    account_id: str
    day: str
    part: int
    bucket: str
    key: str = Field(unique=True)
    sha256: str
    size: int = Field(sa_type=BigInteger)
    count: int
    first_at: int = Field(sa_type=BigInteger)
    last_at: int = Field(sa_type=BigInteger)
    first_seq: int = Field(sa_type=BigInteger, index=True)
    last_seq: int = Field(sa_type=BigInteger)
    contents: dict[str, Any] = Field(sa_type=JSON)
    """``users``: the names of who acted; ``operations``: service, resource type and name of what was done."""
    stored_at: int = Field(sa_type=BigInteger)


class Tracker(SQLModel, table=True):
    """A tracker of a project: where its copies go, or (`kind` ``data``) which bucket's operations are shown.

    `options` holds what the vendor's client sends and gets back; `sent` is the last batch that was copied.
    """

    __tablename__ = "audit_tracker"
    __table_args__ = (UniqueConstraint("project_id", "kind", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    account_id: str
    project_id: str
    kind: str
    name: str
    status: str = "enabled"
    detail: str = ""
    bucket: str = ""
    prefix: str = ""
    data_bucket: str = ""
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    tags: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    sent: int = Field(default=0, sa_type=BigInteger)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)


class KeyOperation(SQLModel, table=True):
    """A rule by which certain operations are told to a topic at once."""

    __tablename__ = "audit_notification"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    account_id: str = Field(index=True)
    project_id: str
    name: str
    status: str = "enabled"
    topic_urn: str
    rule: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
