"""The audit record (003 §10.5)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class Trace(SQLModel, table=True):
    """Who did what, when, from where, with what result: one a request. Rows are written by events only."""

    __tablename__ = "audit_trace"
    __table_args__ = (
        Index("ix_audit_trace_project", "project_id", "at", "id"),
        Index("ix_audit_trace_account", "account_id", "at", "id"),
    )
    id: str = Field(primary_key=True)
    """The request's id."""
    account_id: str | None
    project_id: str
    user_id: str | None
    user_name: str | None
    source_ip: str | None
    method: str
    path: str
    action: str | None
    name: str
    rating: str
    """``normal``, ``warning`` (refused, or the caller's mistake) or ``incident`` (the platform failed)."""
    resource_type: str | None
    resource: str | None
    resource_name: str | None
    status: int
    code: str | None
    reason: str | None
    at: int = Field(sa_type=BigInteger)
    recorded_at: int = Field(sa_type=BigInteger)
    event_time: str
    """When the event was made that this row shows; an earlier event of the same request changes nothing."""
