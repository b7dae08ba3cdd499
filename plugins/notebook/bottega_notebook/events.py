"""Facts about notebook instances."""

from __future__ import annotations

from bottega.events import Event


class NotebookCreated(Event, type="notebook.instance.created.v1"):
    """A notebook was created; its first start has been asked for. Its disk of `capacity_gb` is there from now on."""

    notebook_id: str
    name: str
    flavor: str
    capacity_gb: int = 5


class NotebookStarted(Event, type="notebook.instance.started.v1"):
    """JupyterLab answers; the notebook can be opened."""

    notebook_id: str
    name: str


class NotebookStopped(Event, type="notebook.instance.stopped.v1"):
    """JupyterLab has ended, but not by a failure.

    `reason` is ``user``, ``lease``, ``inside`` (shut down from within) or ``platform`` (which was stopped itself).
    """

    notebook_id: str
    name: str
    reason: str


class NotebookFailed(Event, type="notebook.instance.failed.v1"):
    """JupyterLab could not start, or died."""

    notebook_id: str
    name: str
    reason: str


class NotebookDeleted(Event, type="notebook.instance.deleted.v1"):
    """The notebook is gone from the lists. The files of its disk stay."""

    notebook_id: str
    name: str
