"""The tables of the training plugin. Times are epoch milliseconds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Integer
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.urn import Urn

CREATING, PENDING, RUNNING, TERMINATING = "Creating", "Pending", "Running", "Terminating"
COMPLETED, FAILED, TERMINATED, ABNORMAL = "Completed", "Failed", "Terminated", "Abnormal"
PHASES = (CREATING, PENDING, RUNNING, TERMINATING, COMPLETED, FAILED, TERMINATED, ABNORMAL)
"""The vendor's phases of a job (sdk_spec §2, `phase` of Status)."""
FINAL = (COMPLETED, FAILED, TERMINATED, ABNORMAL)
TASK = "worker-0"
"""The one task of a job on one node (sdk_spec §3.1)."""


def _json(default: type[dict[str, Any]] | type[list[Any]]) -> Any:
    return Field(default_factory=default, sa_type=JSON)


def _time(**arguments: Any) -> Any:
    return Field(sa_type=BigInteger, **arguments)


class TrainingJob(SQLModel, table=True):
    """One job; its name, description and phase also stand in the core registry under the same id.

    `request` is the request as accepted. `inputs` and `outputs` are `layout.Channel` objects as JSON. `summary`
    holds what came out: figures by name. `usage` holds the resource use a minute, by metric, once the job has ended.
    """

    __tablename__ = "training_job"
    id: str = Field(primary_key=True, foreign_key="core_resource.id")
    project_id: str = Field(index=True)
    workspace_id: str
    user_id: str
    user_name: str
    engine_id: str
    flavor_id: str
    node_count: int = 1
    request: dict[str, Any] = _json(dict)
    code_dir: str
    boot_file: str
    inputs: list[dict[str, Any]] = _json(list)
    outputs: list[dict[str, Any]] = _json(list)
    log_path: str
    phase: str = CREATING
    secondary_phase: str = CREATING
    message: str = ""
    exit_code: int | None = None
    workload_id: str | None = Field(default=None, index=True)
    summary: dict[str, Any] = _json(dict)
    usage: dict[str, Any] = _json(dict)
    created_at: int = _time(default_factory=now_ms)
    planned_at: int | None = _time(default=None)
    started_at: int | None = _time(default=None)
    finished_at: int | None = _time(default=None)

    @property
    def urn(self) -> str:
        return str(Urn("training", self.project_id, "job", self.id))

    @property
    def train_url(self) -> str:
        """The folder of the first output."""
        return str(self.outputs[0]["path"])


class TrainingNote(SQLModel, table=True):
    """Something that happened to a job, as its user reads it. `level` is Info, Warning or Error."""

    __tablename__ = "training_note"
    seq: int | None = Field(
        default=None,
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    )
    job_id: str = Field(foreign_key="training_job.id", index=True)
    at: int = _time(default_factory=now_ms)
    level: str = "Info"
    source: str = "training"
    message: str


class TrainingEvaluation(SQLModel, table=True):
    """How well the model of a job did on its held-out samples (`evaluation.Evaluation` as JSON)."""

    __tablename__ = "training_evaluation"
    job_id: str = Field(primary_key=True, foreign_key="training_job.id")
    document: dict[str, Any] = _json(dict)
    created_at: int = _time(default_factory=now_ms)
