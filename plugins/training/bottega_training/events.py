"""What the training plugin tells the rest of the platform."""

from __future__ import annotations

from bottega.events import Event


class JobSubmitted(Event, type="training.job.submitted.v1"):
    """A job was accepted; the engine named in it plans it."""

    job_id: str
    name: str
    engine_id: str
    flavor_id: str


class JobStarted(Event, type="training.job.started.v1"):
    """The job's process runs."""

    job_id: str
    name: str
    started_at: int


class JobCompleted(Event, type="training.job.completed.v1"):
    """The job's process ended well and its outputs are stored.

    `train_url` is the folder of the first output, `outputs` those of all, by channel name. `metrics` are the figures
    the job wrote, those of its evaluation (accuracy, precision, recall, f1) included.
    """

    job_id: str
    name: str
    engine_id: str
    train_url: str
    outputs: dict[str, str]
    metrics: dict[str, float]
    finished_at: int


class JobFailed(Event, type="training.job.failed.v1"):
    """The job could not be started or its process failed; `reason` says why. What it wrote by then is stored."""

    job_id: str
    name: str
    reason: str
    exit_code: int | None
    train_url: str
    finished_at: int


class JobStopped(Event, type="training.job.stopped.v1"):
    """The job was ended on request; what it wrote by then is stored."""

    job_id: str
    name: str
    train_url: str
    finished_at: int


class JobDeleted(Event, type="training.job.deleted.v1"):
    """The job was taken out of the list. Its outputs in object storage stay."""

    job_id: str
    name: str


EVENTS = (JobSubmitted, JobStarted, JobCompleted, JobFailed, JobStopped, JobDeleted)
