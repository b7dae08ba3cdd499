"""Tables of the notebook plugin. Name, description and state stand in the core's registry under the same id."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, UniqueConstraint
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
    key_pairs: list[int] = Field(default_factory=list, sa_column=Column(JSON, nullable=False, server_default="[]"))
    """Those of `KeyPair` that open it over SSH; empty: none does."""
    lease_from: int = Field(default_factory=now_ms, sa_type=BigInteger)
    lease_ms: int = Field(sa_type=BigInteger)
    lease_updated_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)


class KeyPair(SQLModel, table=True):
    """The public half of an SSH key pair of a user; nobody but the user ever has the private one."""

    __tablename__ = "notebook_key_pair"
    __table_args__ = (UniqueConstraint("project_id", "user_id", "name"),)
    key: int | None = Field(default=None, primary_key=True)
    project_id: str
    user_id: str = Field(index=True)
    name: str
    public_key: str
    """Type and base64 data, as in an ``authorized_keys`` file, without a comment."""
    fingerprint: str
    description: str = ""
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
