"""Tables of the conversion plugin. Name, description and state stand in the core's registry under the same id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger
from sqlmodel import Field, SQLModel

from bottega.context import now_ms


class ConversionTask(SQLModel, table=True):
    """One conversion: what was asked, and when it ended the report of its check."""

    __tablename__ = "conversion_task"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    template_id: str
    input_path: str
    output_path: str
    options: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    max_accuracy_loss: float
    flavor: str
    workload_id: str
    stop_requested: bool = False
    model_path: str | None = None
    """The converted model, once there is an accepted one."""
    fail_reason: str = ""
    report: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    created_at: int = Field(default_factory=now_ms, sa_type=BigInteger)
    started_at: int | None = Field(default=None, sa_type=BigInteger)
    ended_at: int | None = Field(default=None, sa_type=BigInteger)
