"""Tables of the notebook plugin. Name, description and state stand in the core's registry under the same id."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel

from bottega.context import now_ms


class Notebook(SQLModel, table=True):
    """One notebook instance. Its disk outlives its workloads; `workload_id` is the present or last one.

    The lease runs from `lease_from` for `lease_ms`; when it is over a running notebook is stopped.
    """

    __tablename__ = "notebook_instance"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    flavor: str
    workload_id: str | None = Field(default=None, index=True)
    fail_reason: str = ""
    stop_reason: str = ""
    """Who asked a STOPPING notebook to stop: ``user`` or ``lease``."""
    capacity_gb: int = 5
    allowed_ips: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    """Addresses, networks and ranges it may be opened from; empty: from everywhere."""
    lease_from: int = Field(default_factory=now_ms, sa_type=BigInteger)
    lease_ms: int = Field(sa_type=BigInteger)
    lease_updated_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
