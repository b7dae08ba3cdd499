"""Tables of data processing. Name, description and workspace of a task stand in the core's registry under its id."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Integer
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import new_id

INITIALIZED, RUNNING, COMPLETED, FAILED, STOPPED = range(5)
"""The API's ``status``."""


def _json() -> Any:
    return Field(default_factory=dict, sa_type=JSON)


def _list() -> Any:
    return Field(default_factory=list, sa_type=JSON)


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class ProcessorTask(SQLModel, table=True):
    """What is to be done to what. `request` has ``inputs``, ``template`` and ``work_path`` as they were asked for.

    `source_type`, `source` and `dataset_version_id` are those of the first input. `status`, `duration_s` and
    `latest_id` are of the newest version; a task nobody has run is INITIALIZED.
    """

    __tablename__ = "dataset_processor_task"
    __table_args__ = (Index("ix_dataset_processor_task_source", "project_id", "source", "dataset_version_id"),)
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str
    template_id: str
    source_type: str
    source: str
    dataset_version_id: str | None = None
    request: dict[str, Any] = _json()
    status: int = INITIALIZED
    duration_s: int = 0
    latest_id: str | None = None
    next_version: int = 1
    created_at: int = _time(default_factory=now_ms)


class ProcessorVersion(SQLModel, table=True):
    """One run of a task.

    `plan` is what was foreseen: ``inputs``, ``steps``, ``dataset_type``, ``report_path`` (the folder of the report),
    ``data_path`` (that of the result), ``manifest``, ``dataset`` (what a new dataset will be) or ``version``.
    `output_dataset_id` and `output_version_id` name the dataset or version it makes, which is there once it is
    COMPLETED. `cursor` and `step` say how far its result was taken in: two who do that cannot both go on.
    """

    __tablename__ = "dataset_processor_version"
    __table_args__ = (Index("ix_dataset_processor_version_task", "task_id", "created_at"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    task_id: str
    project_id: str
    user_id: str
    agency_id: str | None = None
    name: str
    description: str = ""
    status: int = INITIALIZED
    request: dict[str, Any] = _json()
    plan: dict[str, Any] = _json()
    flavor: str
    workload_id: str | None = Field(default=None, index=True)
    stop_requested: bool = False
    output_dataset_id: str | None = None
    output_version_id: str | None = None
    step: int = 0
    cursor: dict[str, Any] = _json()
    counts: dict[str, int] = _json()
    operators: list[dict[str, Any]] = _list()
    problems: list[dict[str, Any]] = _list()
    result: dict[str, Any] = _json()
    error_msg: str = ""
    created_at: int = _time(default_factory=now_ms)
    started_at: int | None = _time(default=None)
    updated_at: int = _time(default_factory=now_ms)
    ended_at: int | None = _time(default=None)


class ProcessorResult(SQLModel, table=True):
    """What became of one sample. `property`: 0 reserved, 1 modified, 2 deleted, 3 added."""

    __tablename__ = "dataset_processor_result"
    __table_args__ = (
        Index("ix_dataset_processor_result_property", "version_id", "property", "number"),
        {"sqlite_with_rowid": False},
    )
    version_id: str = Field(primary_key=True)
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False))
    property: int
    sample_id: str
    origin: str
    new: str
    notes: list[dict[str, Any]] = _list()


TABLES: tuple[type[SQLModel], ...] = (ProcessorTask, ProcessorVersion, ProcessorResult)
