"""What this plugin publishes, and what it reads of others."""

from __future__ import annotations

from bottega.events import Event


class ModelSubmitted(Event, type="serving.model.submitted.v1"):
    """A model's package was found in order; its files are copied now."""

    model_id: str


class ModelPublished(Event, type="serving.model.published.v1"):
    """A model version is ready to be deployed."""

    model_id: str
    name: str
    version: str
    model_type: str
    source_job_id: str | None
    size: int


class ModelFailed(Event, type="serving.model.failed.v1"):
    """A model's files could not be copied."""

    model_id: str
    reason: str


class ModelDeleted(Event, type="serving.model.deleted.v1"):
    """A model version is gone; its files follow."""

    model_id: str
    location: str


class ServiceChanged(Event, type="serving.service.changed.v1"):
    """A service was created or updated; its data plane's route follows."""

    service_id: str
    revision: int


class ServiceRunning(Event, type="serving.service.running.v1"):
    """A service answers predictions."""

    service_id: str
    name: str
    access_address: str


class ServiceStopped(Event, type="serving.service.stopped.v1"):
    """A service no longer answers, because it was stopped."""

    service_id: str
    name: str


class ServiceFailed(Event, type="serving.service.failed.v1"):
    """A service does not answer."""

    service_id: str
    name: str
    reason: str


class ServiceDeleted(Event, type="serving.service.deleted.v1"):
    """A service is gone."""

    service_id: str


class CallsCounted(Event, type="serving.calls.counted.v1"):
    """A version of a service was called `calls` times since the last such event; `failed` of them went wrong.

    `seconds` is how long they took, all together.
    """

    service_id: str
    model_id: str
    model_version: str
    calls: int
    failed: int
    seconds: float = 0.0


EVENTS = (
    ModelSubmitted,
    ModelPublished,
    ModelFailed,
    ModelDeleted,
    ServiceChanged,
    ServiceRunning,
    ServiceStopped,
    ServiceFailed,
    ServiceDeleted,
    CallsCounted,
)
