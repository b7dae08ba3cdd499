"""What team labeling says. Those of a team are about its URN (kind ``workforce``), those of a task about the dataset's.

None carries an e-mail address.
"""

from __future__ import annotations

from bottega.events import Event


class WorkforceCreated(Event, type="dataset.workforce.created.v1"):
    workforce_id: str
    name: str


class WorkforceUpdated(Event, type="dataset.workforce.updated.v1"):
    """Its name or description changed."""

    workforce_id: str
    name: str


class WorkforceDeleted(Event, type="dataset.workforce.deleted.v1"):
    workforce_id: str
    name: str


class WorkerAdded(Event, type="dataset.worker.added.v1"):
    """A team has a new member; `role` is 0 annotator, 1 reviewer, 2 team administrator, 3 dataset owner."""

    workforce_id: str
    worker_id: str
    role: int


class WorkerUpdated(Event, type="dataset.worker.updated.v1"):
    """A member's role, description or password changed, or it logged in for the first time (`status` 2)."""

    workforce_id: str
    worker_id: str
    role: int
    status: int


class WorkerRemoved(Event, type="dataset.worker.removed.v1"):
    workforce_id: str
    worker_id: str


class TeamMailRequested(Event, type="dataset.team_mail.requested.v1"):
    """An e-mail waits to be sent; who to and what it says stay in the database, encrypted."""

    mail_id: str


class TeamTaskCreated(Event, type="dataset.team_task.created.v1"):
    dataset_id: str
    task_id: str
    name: str


class TeamTaskUpdated(Event, type="dataset.team_task.updated.v1"):
    """Its name, description or members changed."""

    dataset_id: str
    task_id: str
    name: str


class TeamTaskStarted(Event, type="dataset.team_task.started.v1"):
    """Samples have been given out; new ones that joined later say so again."""

    dataset_id: str
    task_id: str
    sample_count: int


class TeamTaskDeleted(Event, type="dataset.team_task.deleted.v1"):
    dataset_id: str
    task_id: str
    name: str


class TeamSamplesLabeled(Event, type="dataset.team_task.labeled.v1"):
    """A member labeled samples of a task."""

    dataset_id: str
    task_id: str
    worker_id: str
    count: int


class TeamSamplesReviewed(Event, type="dataset.team_task.reviewed.v1"):
    """`accepted` go on to acceptance, `rejected` back to their annotators."""

    dataset_id: str
    task_id: str
    accepted: int
    rejected: int


class AcceptanceStarted(Event, type="dataset.team_task.sampled.v1"):
    """An acceptance drew `sampled` of `total` samples."""

    dataset_id: str
    task_id: str
    acceptance_id: str
    sampled: int
    total: int


class AcceptanceChecked(Event, type="dataset.team_task.checked.v1"):
    """The owner said of drawn samples whether they pass."""

    dataset_id: str
    task_id: str
    acceptance_id: str
    accepted: int
    rejected: int


class AcceptanceFinished(Event, type="dataset.team_task.accepted.v1"):
    """An acceptance ended by `action`: 0 all passed, 1 all rejected, 2 canceled, 4 and 5 some of each.

    `status` is what the task is now: 1 running, 3 completed, 4 rejected in part.
    """

    dataset_id: str
    task_id: str
    acceptance_id: str
    action: int
    accepted: int
    rejected: int
    status: int


class TeamResultsMerged(Event, type="dataset.team_task.merged.v1"):
    """Accepted labels became the dataset's own."""

    dataset_id: str
    task_id: str
    count: int


TEAM_EVENTS: tuple[type[Event], ...] = (
    WorkforceCreated,
    WorkforceUpdated,
    WorkforceDeleted,
    WorkerAdded,
    WorkerUpdated,
    WorkerRemoved,
    TeamMailRequested,
    TeamTaskCreated,
    TeamTaskUpdated,
    TeamTaskStarted,
    TeamTaskDeleted,
    TeamSamplesLabeled,
    TeamSamplesReviewed,
    AcceptanceStarted,
    AcceptanceChecked,
    AcceptanceFinished,
    TeamResultsMerged,
)
