"""Events this plugin publishes. Those of a dataset are about its URN, those of a task about the task's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from bottega.events import Event


class DatasetCreated(Event, type="dataset.dataset.created.v1"):
    dataset_id: str
    name: str
    dataset_type: int
    work_path: str


class DatasetUpdated(Event, type="dataset.dataset.updated.v1"):
    """Name, description or current version changed."""

    dataset_id: str
    name: str
    current_version_id: str | None


class DatasetDeleted(Event, type="dataset.dataset.deleted.v1"):
    dataset_id: str
    name: str


class LabelsChanged(Event, type="dataset.labels.changed.v1"):
    """Labels were added, renamed (old name → new name), given other properties, or deleted."""

    dataset_id: str
    created: Sequence[str] = ()
    renamed: Mapping[str, str] = Field(default_factory=dict)
    updated: Sequence[str] = ()
    deleted: Sequence[str] = ()


class SamplesLabeled(Event, type="dataset.samples.labeled.v1"):
    """Annotations of `count` samples were set by hand or by a program through the API."""

    dataset_id: str
    count: int


class SamplesUploaded(Event, type="dataset.samples.uploaded.v1"):
    """`count` new samples were added from somebody's machine, by the paths of their objects, or as these appeared."""

    dataset_id: str
    count: int


class SamplesDeleted(Event, type="dataset.samples.deleted.v1"):
    dataset_id: str
    count: int


class TaskRequested(Event, type="dataset.task.requested.v1"):
    """Background work waits to be performed: ``import``, ``publish`` or ``export``."""

    task_id: str
    dataset_id: str
    kind: str


class TaskFinished(Event, type="dataset.task.finished.v1"):
    """Background work ended; `state` is ``completed``, ``failed`` or ``stopped``, `counts` what it did."""

    task_id: str
    dataset_id: str
    kind: str
    state: str
    counts: dict[str, int]
    error_msg: str | None


class VersionPublished(Event, type="dataset.version.published.v1"):
    """A version is there for good: what `manifest_path` names does not change any more."""

    dataset_id: str
    dataset_name: str
    version_id: str
    version_name: str
    manifest_path: str
    manifest_sha256: str
    sample_count: int


class VersionDeleted(Event, type="dataset.version.deleted.v1"):
    """A version is out of the lists; its files stay in storage."""

    dataset_id: str
    version_id: str
    version_name: str


class ProcessingRequested(Event, type="dataset.processing.requested.v1"):
    """A version of a processing task waits for its worker."""

    task_id: str
    task_version_id: str
    template_id: str


class ProcessingFinished(Event, type="dataset.processing.finished.v1"):
    """A version of a processing task ended; `state` is ``completed``, ``failed`` or ``stopped``.

    `output_dataset_id` and `output_version_id` name the dataset and version it made, if it did.
    """

    task_id: str
    task_version_id: str
    template_id: str
    state: str
    counts: dict[str, int]
    output_dataset_id: str | None
    output_version_id: str | None
    error_msg: str | None


EVENTS: tuple[type[Event], ...] = (
    DatasetCreated,
    DatasetUpdated,
    DatasetDeleted,
    LabelsChanged,
    SamplesLabeled,
    SamplesUploaded,
    SamplesDeleted,
    TaskRequested,
    TaskFinished,
    VersionPublished,
    VersionDeleted,
    ProcessingRequested,
    ProcessingFinished,
)
