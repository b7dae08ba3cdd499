"""Tables of the plugin `monitor`. Times are epoch milliseconds."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Index
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import new_id


class Point(SQLModel, table=True):
    """What was measured of one metric of one thing within a minute.

    `dimensions` names the thing, as ``name,value`` pairs in the order of their names joined by ``;``.
    """

    __tablename__ = "monitor_point"
    project_id: str = Field(primary_key=True)
    metric: str = Field(primary_key=True)
    dimensions: str = Field(primary_key=True)
    minute: int = Field(primary_key=True, sa_type=BigInteger, index=True)
    samples: int
    total: float
    least: float
    most: float


class AlarmRule(SQLModel, table=True):
    """A threshold on a metric of one thing, and whom to tell. `state` is ``insufficient_data``, ``ok`` or ``alarm``."""

    __tablename__ = "monitor_alarm"
    __table_args__ = (Index("ix_monitor_alarm_project", "project_id", "created_at"),)
    id: str = Field(default_factory=lambda: "al" + new_id().replace("-", ""), primary_key=True)
    project_id: str
    account_id: str
    owner_id: str
    name: str
    description: str = ""
    namespace: str
    metric: str
    dimensions: str
    statistic: str
    period_s: int
    count: int
    comparison: str
    threshold: float
    unit: str = ""
    suppress_s: int = 0
    level: int = 2
    enabled: bool = True
    tells: bool = True
    alarm_topics: list[str] = Field(default_factory=list, sa_type=JSON)
    ok_topics: list[str] = Field(default_factory=list, sa_type=JSON)
    state: str = "insufficient_data"
    state_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    told_at: int | None = Field(default=None, sa_type=BigInteger)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
