"""Tables of the plugin `billing`: facts, prices, orders and invoices. The ledger's are in `ledger_entities`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.entities import DEFAULT_WORKSPACE
from bottega.urn import Urn

_RUNS = text("finished_at IS NULL")


class UsageRecord(SQLModel, table=True):
    """One usage fact, with who pays for it as it was when it began. `finished_at` is None while it runs.

    `measure` says what `quantity` counts: ``node`` (of a workload, whose id it has), ``gb`` (of a notebook's disk),
    ``byte`` (of a bucket, during one hour) or ``call``. Once it has finished it never changes; the database sees to it.
    """

    __tablename__ = "billing_usage"
    __table_args__ = (
        Index("ix_billing_usage_project", "project_id", "started_at"),
        Index("ix_billing_usage_account", "account_id", "started_at"),
        # The few that run, among all there ever were.
        Index("ix_billing_usage_running", "account_id", sqlite_where=_RUNS, postgresql_where=_RUNS),
    )
    id: str = Field(primary_key=True)
    account_id: str
    project_id: str
    workspace_id: str
    user_id: str
    user_name: str
    kind: str
    backend: str
    flavor: str
    measure: str = "node"
    quantity: int = Field(sa_type=BigInteger)
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


class Order(SQLModel, table=True):
    """Something bought at once: a ``package``, a dedicated ``pool`` or a ``tuning``; it never changes.

    `quantity` counts the node-seconds of a package and the nodes of a pool; `micro` is what was paid. A package fits
    the usage of `flavors` and `kinds` (empty: of all). It holds from `begins` until `ends`, epoch ms.
    """

    __tablename__ = "billing_order"
    __table_args__ = (
        UniqueConstraint("account_id", "order_no"),
        Index("ix_billing_order_account", "account_id", "kind", "ends"),
    )
    id: str = Field(primary_key=True)
    order_no: str
    account_id: str
    project_id: str
    workspace_id: str = DEFAULT_WORKSPACE
    user_id: str
    user_name: str
    kind: str
    name: str
    quantity: int = Field(default=0, sa_type=BigInteger)
    months: int = 0
    flavors: list[str] = Field(default_factory=list, sa_type=JSON)
    kinds: list[str] = Field(default_factory=list, sa_type=JSON)
    micro: int = Field(sa_type=BigInteger)
    currency: str
    begins: int = Field(sa_type=BigInteger)
    ends: int = Field(sa_type=BigInteger)
    tags: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)

    @property
    def resource_urn(self) -> str:
        return str(Urn("billing", self.project_id, "order", self.id))

    @property
    def resource_name(self) -> str:
        return self.name

    @property
    def flavor(self) -> str:
        return self.flavors[0] if len(self.flavors) == 1 else ""


class Invoice(SQLModel, table=True):
    """A closed month of an account; it never changes. `month` is ``2026-11``, `document` what it says line by line."""

    __tablename__ = "billing_invoice"
    __table_args__ = (UniqueConstraint("account_id", "month"),)
    number: str = Field(primary_key=True)
    account_id: str
    month: str
    currency: str
    micro: int = Field(sa_type=BigInteger)
    closed_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    document: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)


class InvoicedEntry(SQLModel, table=True):
    """The one invoice that a ledger entry stands on."""

    __tablename__ = "billing_invoiced_entry"
    entry_id: str = Field(primary_key=True)
    number: str = Field(index=True)
