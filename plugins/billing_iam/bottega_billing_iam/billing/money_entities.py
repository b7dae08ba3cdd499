"""Tables of how accounts pay, of their retention periods, of renewals, and of budgets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Index
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import new_id


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class AccountTerms(SQLModel, table=True):
    """How one account pays, where it differs from the installation's settings (None: as the settings say).

    `credit` is how far below zero a prepaid balance may go, in millionths. `level` is the customer's, by which the
    length of the retention period is chosen.
    """

    __tablename__ = "billing_account_terms"
    account_id: str = Field(primary_key=True)
    mode: str | None = None
    credit: int | None = Field(default=None, sa_type=BigInteger)
    level: str = ""
    updated_at: int = _time(default_factory=now_ms)


class Retention(SQLModel, table=True):
    """An account's time in arrears, from the first hour it could not pay (000 §7).

    Work goes on until `stops_at`; from then to `ends_at` it is stopped and everything is kept. `stopped_at` and
    `ended_at` say when these were done, `lifted_at` when the account had paid; an open one has no `lifted_at`.
    """

    __tablename__ = "billing_retention"
    __table_args__ = (Index("ix_billing_retention_account", "account_id", "lifted_at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    account_id: str
    began_at: int = _time()
    stops_at: int = _time()
    ends_at: int = _time()
    stopped_at: int | None = _time(default=None)
    ended_at: int | None = _time(default=None)
    lifted_at: int | None = _time(default=None)


class Renewal(SQLModel, table=True):
    """The order `order_id` pays a pool on from the end of the order `renews`, which is renewed once."""

    __tablename__ = "billing_renewal"
    order_id: str = Field(primary_key=True)
    renews: str = Field(unique=True)


class PoolEnd(SQLModel, table=True):
    """What was told of the end of a pool's last order: ``expired``, then ``released``."""

    __tablename__ = "billing_pool_end"
    order_id: str = Field(primary_key=True)
    state: str


class Budget(SQLModel, table=True):
    """What a scope may spend in a calendar month (UTC).

    `scope` is ``account``, ``project``, ``workspace``, ``user`` or ``tag``; `scope_id` its id (a tag's ``key:value``,
    the account's own id). `amount` in millionths. `thresholds` are percents of it. `forecast`: warn too when the
    month will end above it. `stop`: at 100 % nothing new is begun in the scope, and what runs is stopped.
    """

    __tablename__ = "billing_budget"
    __table_args__ = (Index("ix_billing_budget_scope", "account_id", "scope", "scope_id"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    account_id: str
    name: str
    scope: str
    scope_id: str
    project_id: str | None = None
    amount: int = _time()
    thresholds: list[int] = Field(default_factory=list, sa_type=JSON)
    forecast: bool = False
    stop: bool = False
    topic_urn: str | None = None
    created_by: str = ""
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class BudgetAlarm(SQLModel, table=True):
    """An alarm that was raised: once per budget, month (``2026-01``) and threshold (percent, or ``forecast``)."""

    __tablename__ = "billing_budget_alarm"
    budget_id: str = Field(primary_key=True)
    period: str = Field(primary_key=True)
    threshold: str = Field(primary_key=True)
    spent: int = _time()
    at: int = _time(default_factory=now_ms)
