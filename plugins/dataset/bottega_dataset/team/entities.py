"""Tables of team labeling. What belongs to a dataset, a sample or a task goes with it: the database cascades.

A team itself is a resource of kind ``workforce`` in the core's registry and has no row here.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Float, ForeignKey, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from bottega.context import now_ms
from bottega.sealing import sealed
from bottega.throttle import LoginFailureColumns
from bottega.urn import new_id

UNLABELED, REJECTED, UNREVIEWED, UNCHECK, ACCEPTED = range(5)
"""The states of an item, the least advanced first: what a sample is as a whole is the least of its items.

To be labeled; sent back by a reviewer or the acceptance; labeled and waiting for a reviewer; waiting for acceptance;
accepted.
"""

ANNOTATOR, REVIEWER, ADMINISTRATOR, OWNER = range(4)
"""Roles of workers."""
INVITED, LOGGED_IN, DELETED = 1, 2, 3
"""What has become of a worker; 0 is one who was not invited yet."""


def _json(**kwargs: Any) -> Any:
    return Field(sa_type=JSON(none_as_null=True), **kwargs)


def _time(**kwargs: Any) -> Any:
    return Field(sa_type=BigInteger, **kwargs)


def _key(target: str, *, primary: bool = True, cascade: bool = True, big: bool = False) -> Any:
    kind = BigInteger().with_variant(Integer, "sqlite") if big else Integer()
    reference = ForeignKey(target, ondelete="CASCADE" if cascade else None)
    return Field(sa_column=Column(kind, reference, primary_key=primary, autoincrement=False, nullable=False))


class TeamSecret(SQLModel, table=True):
    """The key under which a project finds e-mail addresses that are stored encrypted."""

    __tablename__ = "dataset_team_secret"
    project_id: str = Field(primary_key=True)
    index_key: bytes = sealed()


class Labeler(SQLModel, table=True):
    """A person who labels in one project: an e-mail address and a password, no user of the platform.

    `email` is encrypted; `email_index` (keyed hash) finds it. `password_expires_at` bounds an initial password.
    `code_hash` is of the one-time code by which a forgotten password is set anew.
    """

    __tablename__ = "dataset_labeler"
    __table_args__ = (UniqueConstraint("project_id", "email_index"),)
    id: str = Field(default_factory=new_id, primary_key=True)
    project_id: str
    email: bytes = sealed()
    email_index: str
    password_hash: str | None = None
    must_change_password: bool = True
    password_expires_at: int | None = _time(default=None)
    code_hash: str | None = None
    code_expires_at: int | None = _time(default=None)
    tokens_valid_from: int = _time(default=0)
    last_login_at: int | None = _time(default=None)
    created_at: int = _time(default_factory=now_ms)


class LabelerLoginFailure(LoginFailureColumns, table=True):
    """A wrong password or code; `who` is the address's keyed hash, known or not."""

    __tablename__ = "dataset_labeler_login_failure"
    __table_args__ = (Index("ix_dataset_labeler_login_failure_who", "who", "at"),)


class Worker(SQLModel, table=True):
    """A labeler as member of a team. `role`: 0 annotator, 1 reviewer, 2 team administrator, 3 dataset owner.

    `status`: 0 not invited yet, 1 invited, 2 has logged in, 3 deleted; a deleted one keeps neither labeler nor address
    and stays as long as labels are its work.
    """

    __tablename__ = "dataset_worker"
    __table_args__ = (UniqueConstraint("workforce_id", "labeler_id"),)
    key: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    id: str = Field(default_factory=new_id, unique=True)
    project_id: str = Field(index=True)
    workforce_id: str
    labeler_id: str | None = Field(default=None, foreign_key="dataset_labeler.id", index=True)
    role: int
    description: str = ""
    status: int = 0
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class TeamMail(SQLModel, table=True):
    """A message that waits to be sent to a labeler; deleted once the mail server took it, or will not."""

    __tablename__ = "dataset_team_mail"
    id: str = Field(default_factory=new_id, primary_key=True)
    labeler_id: str = Field(sa_column=Column(ForeignKey("dataset_labeler.id", ondelete="CASCADE"), nullable=False))
    task_key: int | None = None
    subject: str
    text: bytes = sealed()
    attempts: int = 0
    created_at: int = _time(default_factory=now_ms)


class TeamTask(SQLModel, table=True):
    """A team labeling task of a dataset.

    `status`: 6 created, 0 starting (samples are being given out), 1 running, 2 under acceptance, 3 completed,
    4 rejected in part. `allocated_key` is the last sample looked at: what is new comes behind it.
    `allocation` says how samples are given out: ``method`` (``even``, ``weight``, ``label``), ``labels``.
    """

    __tablename__ = "dataset_team_task"
    __table_args__ = (UniqueConstraint("dataset_key", "name"),)
    key: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    id: str = Field(default_factory=new_id, unique=True)
    dataset_key: int = _key("dataset_dataset.key", primary=False)
    project_id: str = Field(index=True)
    name: str
    description: str = ""
    status: int = 6
    repetition: int = 1
    auto_sync_dataset: bool = True
    synchronize_data: bool = False
    synchronize_auto_labeling_data: bool = False
    conditions: list[dict[str, Any]] = _json(default_factory=list)
    sample_state: str | None = None
    allocation: dict[str, Any] = _json(default_factory=dict)
    agency: str | None = None
    seed: int = _time(default=0)
    allocated_key: int = _time(default=-1)
    allocated: int = _time(default=0)
    acceptance_id: str | None = None
    created_by: str = ""
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class TeamMember(SQLModel, table=True):
    """A worker of a task. `email_status`: 0 not sent, 1 wrong address, 2 not reachable, 3 sent."""

    __tablename__ = "dataset_team_member"
    task_key: int = _key("dataset_team_task.key")
    worker_key: int = _key("dataset_worker.key")
    role: int
    weight: float = Field(default=1.0, sa_type=Float)
    email_status: int = 0
    notified_at: int | None = _time(default=None)
    created_at: int = _time(default_factory=now_ms)
    updated_at: int = _time(default_factory=now_ms)


class TeamItem(SQLModel, table=True):
    """A sample given to a worker, with what that worker said of it and what others said of that.

    `labels` are annotations (`bottega_dataset.team.items.pack`), None until there are any; `revision` counts their
    changes; `said` is what was said of the sample itself (`usage`, `hard`, `property`). `base_revision` is the sample's
    own when it was given out. `acceptance_key` is the acceptance that is looking at it, `sampled` whether it was drawn.
    `reviewer` and `checker` are actors.
    """

    __tablename__ = "dataset_team_item"
    __table_args__ = (
        Index("ix_dataset_team_item_worker", "task_key", "worker_key", "state", "sample_key"),
        Index("ix_dataset_team_item_state", "task_key", "state", "sample_key"),
        Index("ix_dataset_team_item_sample", "sample_key"),
        {"sqlite_with_rowid": False},
    )
    task_key: int = _key("dataset_team_task.key")
    sample_key: int = _key("dataset_sample.key", big=True)
    worker_key: int = _key("dataset_worker.key", cascade=False)
    state: int = UNLABELED
    labels: list[dict[str, Any]] | None = _json(default=None)
    revision: int = 0
    base_revision: int = 0
    said: dict[str, Any] | None = _json(default=None)
    merged: bool = False
    labeled_at: int | None = _time(default=None)
    review_accept: bool | None = None
    review_comment: str | None = None
    review_score: str | None = None
    reviewer: str | None = None
    acceptance_key: int | None = None
    sampled: bool = False
    check_accept: bool | None = None
    check_comment: str | None = None
    check_score: str | None = None
    checker: str | None = None


class Acceptance(SQLModel, table=True):
    """A look at a part of a task's work that decides about all of it.

    `status`: 0 running, 1 passed, 2 rejected, 3 canceled. `action` is what ended it. The counts are kept when it ends.
    """

    __tablename__ = "dataset_team_acceptance"
    key: int | None = Field(default=None, sa_column=Column(Integer, primary_key=True, autoincrement=True))
    id: str = Field(default_factory=new_id, unique=True)
    task_key: int = _key("dataset_team_task.key", primary=False)
    status: int = 0
    action: int | None = None
    overwrite_last_result: bool = False
    sampling_num: int
    sampling_rate: float = Field(sa_type=Float)
    seed: int = _time()
    total: int
    sampled: int
    counts: dict[str, int] = _json(default_factory=dict)
    created_by: str
    created_at: int = _time(default_factory=now_ms)
    finished_at: int | None = _time(default=None)


TABLES: tuple[type[SQLModel], ...] = (
    TeamSecret,
    Labeler,
    LabelerLoginFailure,
    Worker,
    TeamMail,
    TeamTask,
    TeamMember,
    TeamItem,
    Acceptance,
)
