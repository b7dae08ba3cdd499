"""Facts about conversion tasks."""

from __future__ import annotations

from bottega.events import Event


class TaskSubmitted(Event, type="conversion.task.submitted.v1"):
    """A task was created and its worker asked for."""

    task_id: str
    name: str
    template_id: str
    input_path: str
    output_path: str


class TaskCompleted(Event, type="conversion.task.completed.v1"):
    """The converted model was checked, accepted and stored. Accuracies are None where no labels were given."""

    task_id: str
    name: str
    template_id: str
    model_path: str
    size_before: int
    size_after: int
    accuracy_before: float | None
    accuracy_after: float | None


class TaskFailed(Event, type="conversion.task.failed.v1"):
    """The task could not convert, or what it made was not accepted (`not_accepted`)."""

    task_id: str
    name: str
    template_id: str
    reason: str
    not_accepted: bool


class TaskStopped(Event, type="conversion.task.stopped.v1"):
    """A user stopped the task before its end."""

    task_id: str
    name: str
