"""Tables of the plugin `billing`: facts only; amounts are computed from them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index
from sqlmodel import Field, SQLModel


class UsageRecord(SQLModel, table=True):
    """One workload's time, with who pays for it as it was when it started. `finished_at` is None while it runs."""

    __tablename__ = "billing_usage"
    __table_args__ = (
        Index("ix_billing_usage_project", "project_id", "started_at"),
        Index("ix_billing_usage_account", "account_id", "started_at"),
    )
    workload_id: str = Field(primary_key=True)
    account_id: str
    project_id: str
    workspace_id: str
    user_id: str
    user_name: str
    kind: str
    backend: str
    flavor: str
    node_count: int
    resource_urn: str
    resource_name: str
    tags: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    started_at: int = Field(sa_type=BigInteger)
    finished_at: int | None = Field(default=None, sa_type=BigInteger)


class PriceVersion(SQLModel, table=True):
    """A version of the price list as it was adopted."""

    __tablename__ = "billing_price_version"
    version: str = Field(primary_key=True)
    currency: str
    valid_from: int = Field(sa_type=BigInteger)
    digest: str
    document: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
