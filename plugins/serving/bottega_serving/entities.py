"""Tables of the serving plugin. Times are epoch milliseconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from bottega.context import now_ms


def _json(empty: type = dict) -> Any:
    return Field(default_factory=empty, sa_type=JSON)


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


class Model(SQLModel, table=True):
    """A version of a model. `id` is that of its row in the core registry.

    States: ``publishing`` → ``published`` | ``failed``. `config` is the package's ``config.json``; `files` lists what
    was copied: ``{"path", "size", "etag", "sha256"}`` each, below `location`.
    """

    __tablename__ = "serving_model"
    __table_args__ = (UniqueConstraint("project_id", "name", "version"),)
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    workspace_id: str
    account_id: str
    owner_id: str
    name: str
    version: str
    model_type: str
    description: str = ""
    status: str
    error_msg: str = ""
    source_location: str
    source_job_id: str | None = None
    source_job_version: str | None = None
    location: str
    config: dict[str, Any] = _json()
    docs: list[Any] = _json(list)
    files: list[Any] = _json(list)
    size: int = _time(default=0)
    created_at: int = _time(default_factory=now_ms)


class Service(SQLModel, table=True):
    """A real-time service. `id` is that of its row in the core registry.

    States: ``deploying`` → ``running`` | ``failed``; ``running`` ↔ ``concerning`` (a part of it does not work);
    any of these → ``stopping`` → ``stopped`` → ``deploying``. `config` holds the versions: ``{"model_id", "model_name",
    "model_version", "weight", "specification", "instance_count", "envs"}``. `revision` counts the routes published.
    """

    __tablename__ = "serving_service"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    workspace_id: str
    account_id: str
    owner_id: str
    name: str
    description: str = ""
    status: str = Field(index=True)
    error_msg: str = ""
    config: list[Any] = _json(list)
    schedule: list[Any] = _json(list)
    due_time: int | None = _time(default=None)
    workload_id: str | None = None
    endpoint: str = ""
    revision: int = 0
    published_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)
    transition_at: int = _time(default_factory=now_ms)


class Deployment(SQLModel, table=True):
    """Which services use a model; its foreign key is what keeps a model from being deleted under a service."""

    __tablename__ = "serving_deployment"
    service_id: str = Field(primary_key=True, foreign_key="serving_service.id")
    model_id: str = Field(primary_key=True, foreign_key="serving_model.id", index=True)


class ServiceUpdate(SQLModel, table=True):
    """A configuration a service was given (002 §7.2.2). `result` is ``RUNNING``, ``SUCCESS`` or ``FAIL``."""

    __tablename__ = "serving_update"
    service_id: str = Field(primary_key=True, foreign_key="serving_service.id")
    revision: int = Field(primary_key=True)
    update_time: int = _time(default_factory=now_ms)
    result: str = "RUNNING"
    config: list[Any] = _json(list)


class ServiceEvent(SQLModel, table=True):
    """Something that happened to a service, for its owner. `event_type` is ``normal`` or ``abnormal``."""

    __tablename__ = "serving_event"
    id: int | None = Field(default=None, primary_key=True)
    service_id: str = Field(foreign_key="serving_service.id", index=True)
    occur_time: int = _time(default_factory=now_ms)
    event_type: str = "normal"
    event_info: str


class Calls(SQLModel, table=True):
    """Calls of one version of a service, summed over all runs of its data plane.

    `epoch` names the run that reported last and `seen_*` are its totals then, so that what a report adds is counted
    once whatever is lost or repeated. `this_minute` counts the calls of `minute` (of the
    epoch) and `last_minute` those of the one before.
    """

    __tablename__ = "serving_calls"
    service_id: str = Field(primary_key=True, foreign_key="serving_service.id")
    model_id: str = Field(primary_key=True)
    calls: int = _time(default=0)
    failed: int = _time(default=0)
    epoch: str = ""
    seen_calls: int = _time(default=0)
    seen_failed: int = _time(default=0)
    seen_seconds: float = 0.0
    minute: int = _time(default=0)
    this_minute: int = 0
    last_minute: int = 0

    def count(self, calls: int, failed: int, now: int) -> None:
        self.calls += calls
        self.failed += failed
        minute = now // 60_000
        if minute != self.minute:
            self.last_minute = self.this_minute if minute == self.minute + 1 else 0
            self.minute, self.this_minute = minute, 0
        self.this_minute += calls

    def per_minute(self, now: int) -> int:
        """Calls of the last 60 s, taking those of the minute before as evenly spread."""
        minute, elapsed = divmod(now, 60_000)
        this, last = {self.minute: (self.this_minute, self.last_minute), self.minute + 1: (0, self.this_minute)}.get(
            minute, (0, 0)
        )
        return this + round(last * (60_000 - elapsed) / 60_000)


class Denials(SQLModel, table=True):
    """How far the refused calls of a data plane's run have been recorded for the audit trail."""

    __tablename__ = "serving_denials"
    service_id: str = Field(primary_key=True, foreign_key="serving_service.id")
    epoch: str = ""
    seen: int = _time(default=0)
